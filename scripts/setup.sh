# shellcheck shell=sh
# Sourced by the other scripts: puts in place what a fresh Linux machine lacks, and nothing else.
# The checks read files and call no package manager, so a machine that has everything pays
# milliseconds. They tell that a driver is installed, not that it finds a device: ensure_adapter
# asks the program for that.
#
# FUSEBENCH_NO_SETUP=1      say what is missing, install nothing
# FUSEBENCH_SETUP_ROOT=DIR  look for libraries, drivers and distribution under DIR (for the tests)

root=${FUSEBENCH_SETUP_ROOT:-}
newline='
'

say() { printf 'scripts/%s: %s\n' "${0##*/}" "$*" >&2; }

die() { status=$1 && shift && say "$*" && exit "$status"; }

# --- what is there ---

# Where the dynamic linker looks. `ldconfig -p` would know, but musl has none of it and Debian
# keeps it off a user's PATH.
library_dirs() {
    printf '%s\n' "${LD_LIBRARY_PATH:-}" | tr : '\n'
    for dir in lib64 usr/lib64 lib usr/lib usr/local/lib; do
        echo "$root/$dir"
    done
    cat "$root"/etc/ld.so.conf "$root"/etc/ld.so.conf.d/*.conf "$root"/etc/ld-musl-*.path \
        2>/dev/null | tr : '\n' | sed -n "s|^/|$root/|p"
}

# The driver manifests the Vulkan loader would read; the two variables replace its own search.
manifests() {
    if [ -n "${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}" ]; then
        printf '%s\n' "${VK_DRIVER_FILES:-$VK_ICD_FILENAMES}" | tr : '\n'
        return
    fi
    for dir in "${XDG_CONFIG_HOME:-${HOME:-}/.config}" "${XDG_DATA_HOME:-${HOME:-}/.local/share}" \
        "$root/etc" "$root/usr/local/share" "$root/usr/share" "$root/run/opengl-driver/share"; do
        printf '%s\n' "$dir"/vulkan/icd.d/*.json
    done
}

# Is the Vulkan loader there, and a manifest whose driver exists? With NAME, only such a driver.
# A subshell, so that IFS and the variables stay inside.
has_driver() ( # [NAME]
    IFS=$newline
    dirs=$(library_dirs)
    has_library() {
        for dir in $dirs; do
            [ ! -e "$dir/$1" ] || return 0
        done
        return 1
    }
    has_library libvulkan.so.1 || exit 1
    for manifest in $(manifests); do
        [ -f "$manifest" ] || continue
        library=$(sed -n "s/.*\"library_path\"[^\"]*\"\([^\"]*${1:-}[^\"]*\)\".*/\1/p" "$manifest")
        case $library in
        '') ;;
        /*) [ ! -e "$root$library" ] || exit 0 ;;
        */*) [ ! -e "${manifest%/*}/$library" ] || exit 0 ;;
        *) ! has_library "$library" || exit 0 ;;
        esac
    done
    exit 1
)

# A compiler without the C library's start files (Debian's gcc without libc6-dev) cannot link.
has_linker() {
    case $(cc -print-file-name=crt1.o 2>/dev/null) in
    */*) ;;
    *) return 1 ;;
    esac
}

has() { # NEED
    case $1 in
    driver) has_driver ;;
    software-driver) has_driver vulkan_lvp ;;
    linker) has_linker ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# Rust is the user's to install: distributions' versions are too old, and a script that pipes a
# download into a shell is nobody's friend.
check_rust() {
    command -v cargo >/dev/null || PATH=${CARGO_HOME:-${HOME:-}/.cargo}/bin:$PATH
    { command -v cargo && command -v rustc; } >/dev/null ||
        die 2 "no Rust toolchain found: install one with rustup, https://rustup.rs"
    needed=$(sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' Cargo.toml)
    version=$(cargo --version) || die 2 "cargo does not start: see the message above"
    minor=${version#cargo 1.}
    minor=${minor%%.*}
    case $minor in
    *[!0-9]*) ;; # Of another form: let cargo judge.
    *) [ "$minor" -ge "$needed" ] ||
        die 2 "$version found, 1.$needed needed: see https://rustup.rs" ;;
    esac
}

# --- what to install ---

why() { # NEED
    case $1 in
    driver) echo "no Vulkan driver is installed: Mesa's runs the kernels on the CPU instead" ;;
    software-driver) echo "no Vulkan device answers: Mesa's driver runs the kernels on the CPU" ;;
    linker) echo "no working C compiler (cc), which Rust links with" ;;
    c++) echo "no C++ compiler (c++), which builds the fuzzer" ;;
    spirv-val) echo "no spirv-val, with which the tests validate compiled kernels" ;;
    esac
}

packages() { # FAMILY NEED…
    family=$1
    shift
    for need; do
        case $family/$need in
        debian/*driver) echo libvulkan1 mesa-vulkan-drivers ;;
        fedora/*driver) echo vulkan-loader mesa-vulkan-drivers ;;
        arch/*driver) echo vulkan-icd-loader vulkan-swrast ;;
        alpine/*driver) echo vulkan-loader mesa-vulkan-swrast ;;
        suse/*driver) echo libvulkan1 libvulkan_lvp ;;
        debian/linker) echo gcc libc6-dev ;;
        alpine/linker) echo gcc musl-dev ;;
        */linker) echo gcc ;;
        debian/c++ | alpine/c++) echo g++ ;;
        arch/c++) echo gcc ;;
        */c++) echo gcc-c++ ;;
        */spirv-val) echo spirv-tools ;;
        esac
    done | tr '\n' ' ' | sed 's/ $//'
}

# The distribution decides, not the commands found: a Debian machine may carry dnf or pacman too.
family() {
    sed -En 's/^ID(_LIKE)?=//p' "$root/etc/os-release" 2>/dev/null | tr -d \"\' | tr ' ' '\n' |
        sed -e 's/^ubuntu$/debian/' -e 's/^rhel$/fedora/' -e 's/^opensuse.*/suse/' |
        grep -Ex -m 1 'debian|fedora|arch|alpine|suse' || :
}

install_command() { # FAMILY PACKAGES
    case $1 in
    debian) # A fresh cloud machine holds the lock for its own updates during the first minutes.
        echo "apt-get update -qq &&" \
            "DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120" \
            "install -qq -y --no-install-recommends $2"
        ;;
    fedora) echo "dnf install -q -y --setopt=install_weak_deps=False $2" ;;
    arch) # Without a package list only a full upgrade is safe; with one, no upgrade is asked for.
        if [ -e "$root/var/lib/pacman/sync/core.db" ]; then sync=-S; else sync=-Syu; fi
        echo "pacman $sync --needed --noconfirm $2"
        ;;
    alpine) echo "apk add --no-cache $2" ;;
    suse) echo "zypper --non-interactive install --no-recommends $2" ;;
    esac
}

install() { # NEED…
    for need; do
        say "$(why "$need")"
    done
    [ -z "${FUSEBENCH_NO_SETUP:-}" ] || return 0
    case "$*/${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}" in
    *driver*/?*) die 3 "VK_DRIVER_FILES or VK_ICD_FILENAMES hides others: correct or unset it" ;;
    esac
    family=$(family)
    [ -n "$family" ] || die 3 "unknown distribution: install by hand what Debian calls" \
        "$(packages debian "$@"), then run this again"
    command=$(install_command "$family" "$(packages "$family" "$@")")
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        as_root=$(command -v sudo || command -v doas) ||
            die 3 "neither root, nor sudo, nor doas: as root, run: $command"
    fi
    say "running${as_root:+ with ${as_root##*/}}, for a minute or two: $command"
    output=$($as_root sh -c "$command" </dev/null 2>&1) ||
        die 3 "that failed; once it works, run this again. It said:$newline$output"
    for need; do
        has "$need" || die 3 "the packages are installed, but still: $(why "$need")"
    done
}

# --- what the scripts call, from the repository's root ---

setup() { # NEED…: driver, linker, or the name of a command
    check_rust
    [ "$(uname -s)" = Linux ] || return 0 # Elsewhere the system brings its driver and linker.
    missing=
    for need; do
        has "$need" || missing="$missing $need"
    done
    # shellcheck disable=SC2086 # The words of $missing are the arguments.
    [ -z "$missing" ] || install $missing
}

# A driver for a card that is not there passes setup. Where the software driver is installed, a
# device always answers, and the program need not be asked.
ensure_adapter() { # PROGRAM
    [ "$(uname -s)" = Linux ] && ! has software-driver || return 0
    status=0
    "$1" devices >/dev/null 2>&1 || status=$?
    [ "$status" -ne 3 ] || install software-driver
}

#!/bin/sh
# Does this change slow a kernel down or make it wrong? For any CI, in one file:
#
#     ci/recipe.sh BASE HEAD [ARGUMENTS OF fusebench ab…]
#
# BASE and HEAD are revisions of the repository round the working folder; the base is read from the
# repository and never from the proposed change, which could edit it. Where only shaders differ, one
# program measures both; else each revision is built once, in a folder of its own, and the two
# programs are compared. What is slower is measured again in a new process, and only what is slower
# both times counts.
#
# FUSEBENCH           a program to use for shaders instead of building the head
# FUSEBENCH_CI_CACHE  where programs are kept for the next run (default: .fusebench/cache)
# FUSEBENCH_CI_OUT    where results go (default: .fusebench/out): comparison.json, confirmed.json,
#                     comment.md for the pull request, junit.xml
#
# Exit codes are those of `fusebench ab`: 0 fine, 1 slower or wrong, 2 usage, 3 no adapter,
# 4 nothing to compare, 5 inconclusive where --fail-on unclear asks for it, 130 interrupted.
set -eu

say() { printf 'recipe: %s\n' "$*" >&2; }

die() { # CODE MESSAGE
    code=$1
    shift
    say "$*"
    exit "$code"
}

[ $# -ge 2 ] || die 2 "usage: ci/recipe.sh BASE HEAD [ARGUMENTS OF fusebench ab…]"
root=$(git rev-parse --show-toplevel) || die 2 "run it inside the repository"
cd "$root"

commit() { # REVISION
    git rev-parse --verify --quiet --end-of-options "$1^{commit}" ||
        die 2 "no revision $1: fetch it first, a shallow clone lacks the base"
}

base=$(commit "$1")
head=$(commit "$2")
shift 2
cache=${FUSEBENCH_CI_CACHE:-.fusebench/cache}
out=${FUSEBENCH_CI_OUT:-.fusebench/out}
mkdir -p "$cache" "$out"
cache=$(cd "$cache" && pwd)
rm -f "$out/comparison.json" "$out/confirmed.json" "$out/comment.md" "$out/junit.xml"

# A tree of the commit beside this one, built unless a run before did.
build() { # COMMIT
    program=$cache/fusebench-$1
    [ ! -x "$program" ] || { say "using the program of $1 from the cache" && return; }
    say "building $1"
    tree=$cache/tree
    git worktree remove --force "$tree" 2>/dev/null || rm -rf "$tree"
    git worktree prune
    git worktree add --quiet --detach "$tree" "$1"
    (cd "$tree" && CARGO_TARGET_DIR=$cache/target cargo build --release --locked --bin fusebench) ||
        die 2 "$1 does not build: see the messages above"
    cp "$cache/target/release/fusebench" "$program.new"
    mv "$program.new" "$program"
    git worktree remove --force "$tree"
}

if [ -n "${FUSEBENCH:-}" ]; then
    program=$FUSEBENCH
    set -- --base "$base" --head "$head" "$@"
elif git diff --quiet "$base" "$head" -- . ':(exclude)kernels'; then
    build "$head"
    set -- --base "$base" --head "$head" "$@"
else
    build "$base"
    of_base=$program
    build "$head"
    set -- --base "$of_base" --head "$program" "$@"
fi

# --- measure, and measure again what is slower ---

measured=0
"$program" ab "$@" -o "$out/comparison.json" --format markdown >"$out/comment.md" || measured=$?
verdict=$measured
if [ "$measured" -eq 1 ] && grep -q '"verdict": "SLOWER"' "$out/comparison.json"; then
    say "measuring again what is slower"
    verdict=0
    "$program" ab "$@" --confirm "$out/comparison.json" -o "$out/confirmed.json" \
        --format markdown >"$out/confirmed.md" || verdict=$?
    # What is wrong is wrong at once, whatever comes of the times.
    ! grep -q '"verdict": "WRONG"' "$out/comparison.json" || verdict=1
    # The second comparison says what counts of the times; the first has the other cells.
    mv "$out/comment.md" "$out/first.md"
    cp "$out/confirmed.md" "$out/comment.md"
    if [ "$(cat "$out/first.md" "$out/confirmed.md" | wc -c)" -lt 60000 ]; then
        {
            printf '\n<details><summary>First comparison, of all cells</summary>\n\n'
            cat "$out/first.md"
            printf '\n</details>\n'
        } >>"$out/comment.md"
    fi
    rm -f "$out/first.md" "$out/confirmed.md"
fi

# --- what others read ---

if [ -e "$out/comparison.json" ]; then
    # Times count where they were confirmed, all else is in the first.
    set --
    [ ! -e "$out/confirmed.json" ] || set -- "$out/confirmed.json"
    "$program" export "$out/comparison.json" "$@" --to junit -o "$out/junit.xml" ||
        say "no junit.xml: see above"
fi
# The first line is how a later run finds the comment and replaces it.
marker='<!-- fusebench -->'
[ -s "$out/comment.md" ] ||
    echo "### fusebench: nothing was compared (exit code $verdict)" >"$out/comment.md"
if [ "$(head -n 1 "$out/comment.md")" != "$marker" ]; then
    { echo "$marker" && cat "$out/comment.md"; } >"$out/comment.new"
    mv "$out/comment.new" "$out/comment.md"
fi
cat "$out/comment.md"
exit "$verdict"

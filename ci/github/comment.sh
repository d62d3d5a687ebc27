#!/bin/sh
# Posts a comment to a pull request, or replaces the one of an earlier run:
#
#     comment.sh NUMBER FILE
#
# Needs gh, GH_TOKEN with pull-requests: write, and GH_REPO.
set -eu

number=$1
file=$2
case $number in
'' | *[!0-9]*) echo "comment.sh: no number of a pull request: $number" >&2 && exit 2 ;;
esac

# The first line of every comment says whose it is; only the token's own may be replaced.
marker=$(head -n 1 "$file")
[ "$marker" = '<!-- fusebench -->' ] || { echo "comment.sh: $file is no comment" >&2 && exit 2; }
earlier=$(gh api --paginate "repos/$GH_REPO/issues/$number/comments" --jq \
    '.[] | select(.user.type == "Bot" and (.body | startswith("<!-- fusebench -->"))) | .id' |
    tail -n 1)
if [ -n "$earlier" ]; then
    gh api --silent --method PATCH "repos/$GH_REPO/issues/comments/$earlier" --field body=@"$file"
else
    gh api --silent "repos/$GH_REPO/issues/$number/comments" --field body=@"$file"
fi

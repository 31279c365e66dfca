# shellcheck shell=bash
# Packages of another Debian than the machine's, for who sources this and has a function `die`. Needs
# `shopt -s extglob`.

# What the machine's own apt takes packages from, read from both kinds of files:
# lines of "SUITE URI KEYRING", without a keyring where none is named by its path.
apt_sources() {
    local list='' parts=''
    eval "$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)"
    shopt -s nullglob
    for list in "$list" "$parts"/*.list; do
        [[ ! -f $list ]] || awk '
            $1 == "deb" {
                key = ""
                if (match($0, /\[[^]]*\]/)) {
                    options = substr($0, RSTART + 1, RLENGTH - 2)
                    $0 = substr($0, 1, RSTART - 1) substr($0, RSTART + RLENGTH)
                    if (match(options, /signed-by=[^ ]+/)) key = substr(options, RSTART + 10, RLENGTH - 10)
                }
                for (i = 4; i <= NF; i++) if ($i == "main") print $3, $2, key
            }' "$list"
    done
    for list in "$parts"/*.sources; do
        grep -v '^#' "$list" | awk -v RS='' '
            {
                split("", field)
                n = split($0, lines, "\n")
                for (i = 1; i <= n; i++) {
                    if (match(lines[i], /^[A-Za-z-]+:/)) {
                        name = tolower(substr(lines[i], 1, RLENGTH - 1))
                        lines[i] = substr(lines[i], RLENGTH + 1)
                    }
                    field[name] = field[name] " " lines[i]
                }
                key = field["signed-by"]
                gsub(/^ +| +$/, "", key)
                if (key !~ /^\/[^ ]+$/) key = ""
                split(field["uris"], uris, " ")
                n = split(field["suites"], suites, " ")
                if ((field["types"] " ") ~ / deb / && (field["components"] " ") ~ / main / &&
                    tolower(field["enabled"]) !~ / (no|false|0|off)$/)
                    for (i = 1; i <= n; i++) print suites[i], uris[1], key
            }'
    done
}

# "URI KEYRING" of the Debian mirror that has a suite like the pattern $1.
mirror() {
    local suite uri key
    while read -r suite uri key; do
        # Others call their suites after Debian's; its mirrors say so in their paths.
        # shellcheck disable=SC2053 # a pattern
        [[ $uri == *debian* && $suite == $1 ]] || continue
        printf '%s %s\n' "$uri" "$key"
        return
    done < <(apt_sources)
    die "the machine's apt sources have no Debian suite like $1"
}

# An apt of our own in folder $1 that knows one suite, $2, and nothing installed;
# the machine's lists, caches and hooks stay out of it.
private_apt() {
    local dir=$1 suite=$2 pattern place uri key
    pattern="@($(. /etc/os-release && printf %s "${VERSION_CODENAME:-}")|stable|oldstable|testing|unstable|sid)"
    [[ $suite != *-security ]] || pattern='*-security'
    place=$(mirror "$pattern")
    read -r uri key <<<"$place"
    mkdir -p "$dir"/{none.d,lists/partial,cache/archives/partial}
    : >"$dir/status"
    printf 'deb [arch=amd64%s] %s %s main\n' "${key:+ signed-by=$key}" "$uri" "$suite" \
        >"$dir/sources.list"
    # The machine's settings (proxies, timeouts) without its hooks, which would
    # clean the machine's own caches.
    apt-config dump | grep -v -e '-Invoke' >"$dir/apt.conf"
    cat >>"$dir/apt.conf" <<END
Dir::Etc::main "/dev/null";
Dir::Etc::parts "$dir/none.d";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "$dir/none.d";
Dir::Etc::preferencesparts "$dir/none.d";
Dir::State "$dir";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
APT::Sandbox::User "root";
END
    APT_CONFIG=$dir/apt.conf apt-get -qq -o Acquire::Retries=3 \
        -o APT::Update::Error-Mode=any update >&2 || die "$suite: not to be had from $uri"
}

# common.sh: what ./run and ./test share: packages and build folders.
# Sourced by bash; the caller has set $root to the top of the tree.

say() { printf '%s\n' "$*" >&2; }
die() { say "$prog: $*"; exit 1; }

# package_there HOW: is what the third column of scripts/packages describes there?
package_there() {
    case $1 in
    cmd:*)  command -v "${1#cmd:}" >/dev/null 2>&1 ;;
    pc:*)   command -v pkg-config >/dev/null 2>&1 && pkg-config --exists "${1#pc:}" 2>/dev/null ;;
    file:*) compgen -G "${1#file:}" >/dev/null ;;
    *)      return 1 ;;
    esac
}

# missing_packages WHO...: prints the packages that these need and that are not there.
missing_packages() {
    local name who how
    while read -r name who how; do
        case $name in ''|'#'*) continue ;; esac
        case " $* " in *" $who "*) package_there "$how" || printf '%s\n' "$name" ;; esac
    done <"$root/scripts/packages"
}

# install_packages NAME...: as root, or by sudo where it asks for no password.
# The network may be away and the package lists stale: both are tried, and
# what is printed is apt's own last word.
install_packages() {
    local as=() log
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null || return 1
        as=(sudo -n)
    fi
    log=$(mktemp) || return 1
    say "$prog: installing $*"
    local apt=("${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y
               -o DPkg::Lock::Timeout=300 -o Acquire::Retries=2)
    if "${apt[@]}" install --no-install-recommends "$@" >"$log" 2>&1 ||
       { "${apt[@]}" update >"$log" 2>&1
         "${as[@]}" dpkg --configure -a >>"$log" 2>&1      # an earlier install was interrupted
         "${apt[@]}" install --no-install-recommends "$@" >>"$log" 2>&1; }; then
        rm -f "$log"
        return 0
    fi
    grep -E '^(E|W|dpkg):' "$log" | tail -5 >&2
    rm -f "$log"
    return 1
}

# need_packages WHO...: installs what is missing, or says what to install and fails.
need_packages() {
    local missing
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] && return 0
    # shellcheck disable=SC2086
    install_packages $missing || true
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] && return 0
    say "$prog: missing: $missing"
    if command -v apt-get >/dev/null 2>&1; then
        say "$prog: could not install them here; as root: apt-get update && apt-get install $missing"
    else
        say "$prog: these are Debian's names; install what your system calls them, then run $prog again"
    fi
    return 1
}

# configure DIR MESON-OPTION...: a build folder for this tree. One that was
# interrupted, moved or copied from another place is made anew, and so is one
# with other options.
configure() {
    local dir=$1
    shift
    local want="$root|${CC:-cc}|$*"
    if [ -f "$dir/build.ninja" ] && [ "$(cat "$dir/.watt-options" 2>/dev/null)" = "$want" ]; then
        return 0
    fi
    rm -rf "$dir"
    if ! (cd "$root" && meson setup "$dir" "$@") >"$root/.configure.log" 2>&1; then
        tail -20 "$root/.configure.log" >&2
        rm -rf "$dir" "$root/.configure.log"
        say "$prog: meson could not configure $dir"
        return 1
    fi
    rm -f "$root/.configure.log"
    printf '%s' "$want" >"$dir/.watt-options"
}

# compile DIR [TARGET...]: quiet unless something is wrong.
compile() {
    local dir=$1 log
    shift
    log=$(mktemp) || return 1
    if ! ninja -C "$dir" "$@" >"$log" 2>&1; then
        grep -E 'error|warning|undefined|FAILED|ninja:' "$log" | head -40 >&2
        rm -f "$log"
        say "$prog: the build in $dir failed; ninja -C $dir shows all of it"
        return 1
    fi
    rm -f "$log"
}

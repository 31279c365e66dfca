# What the tests in this folder share: namespaces around all of it, pods' networks, and what must be
# true of a pod. The script that reads it says
# - cgroup: how the folders are called that its runtime makes for cgroups, or what that begins with,
# - said CONTAINER: prints what a container of the pod has said,
# and calls `outside`, which runs it again as `SCRIPT --inside FOLDER` in namespaces of their own.
# shellcheck shell=bash
PATH=$PATH:/usr/sbin:/sbin

die() {
	printf 'tests/pods/%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# ---- outside: the namespaces around it ----------------------------------------------------------

# The arguments are the commands that the script needs beside those from here, each as
# COMMAND:PACKAGE.
outside() {
	local self bin pair missing=()
	self=$(realpath "$0")
	bin=${BIN_DIR:-$(dirname "$self")/../../target/release}
	[[ $EUID -eq 0 ]] || die "needs root"
	for pair in "$@" runc:runc busybox:busybox-static nginx:nginx-light curl:curl jq:jq ip:iproute2 \
		unshare:util-linux; do
		command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
	done
	# busybox alone may be the dynamic build, which needs libraries that the images lack.
	! ldd "$(command -v busybox)" >/dev/null 2>&1 || missing+=(busybox-static)
	[[ ${#missing[@]} -eq 0 ]] || die "missing: install ${missing[*]}"

	tmp=$(mktemp -d)
	namespaces=
	trap clean_up EXIT
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM
	mkdir "$tmp/bin" "$tmp/inside"
	# Copies, for those in BIN_DIR may be built anew meanwhile.
	cp "$bin"/{metricd-init,metricd,metricd-injector,linkerd-metricd} "$tmp/bin" || die "no binaries in $bin: cargo build --release"
	cgroups >"$tmp/cgroups"
	setpriv --pdeathsig KILL unshare --mount --net --pid --ipc --uts --fork --kill-child --mount-proc \
		"$self" --inside "$tmp" </dev/null &
	namespaces=$!
	wait "$namespaces"
}

# Processes, mounts, pins, networks, images and pods end with the namespaces; cgroups don't.
# shellcheck disable=SC2317 # called by the trap
clean_up() {
	local rc=$? left
	if [[ -n $namespaces ]] && kill -KILL "$namespaces" 2>/dev/null; then
		wait "$namespaces" 2>/dev/null || true
	fi
	for _ in {1..50}; do
		mapfile -t left < <(comm -13 "$tmp/cgroups" <(cgroups) | sort -r)
		[[ ${#left[@]} -gt 0 ]] || break
		# Not those in which processes still are, whosesoever they be.
		rmdir "${left[@]}" 2>/dev/null || sleep 0.1
	done
	rm -rf "$tmp"
	exit "$rc"
}

# The runtime's cgroups on this machine.
cgroups() {
	find /sys/fs/cgroup -type d -path "*/$cgroup*" 2>/dev/null | sort
}

# ---- inside: what is there -----------------------------------------------------------------------

# File systems of our own, for what runtimes keep outside of the folders that they are given; the
# files of the images, in images/NAME; a folder for what the pods leave, and one with a shell.
set_up_files() {
	local dir
	for dir in "$tmp/inside" /run /dev/shm /var/lib; do
		mount -t tmpfs tmpfs "$dir"
	done
	ip link set lo up
	cd "$tmp/inside"
	mkdir images pods test
	chmod 1777 pods
	cp "$(command -v busybox)" test
	image_files metricd-init "$tmp/bin/metricd-init"
	image_files metricd "$tmp/bin/metricd"
	image_files nginx "$(command -v nginx)"
	mkdir images/nginx/tmp
	chmod 1777 images/nginx/tmp
	cat >images/nginx/nginx.conf <<-'END'
		daemon off;
		pid /tmp/nginx.pid;
		error_log stderr;
		events {}
		http {
			access_log /dev/stdout;
			client_body_temp_path /tmp/body;
			proxy_temp_path /tmp/proxy;
			fastcgi_temp_path /tmp/fastcgi;
			uwsgi_temp_path /tmp/uwsgi;
			scgi_temp_path /tmp/scgi;
			server {
				listen 8080;
				location / { return 200 "hello\n"; }
				location /missing { return 404; }
			}
		}
	END
}

# A program, with the libraries that it is linked to.
image_files() {
	local name=$1 program=$2 dir=images/$1 lib
	install -D "$program" "$dir/$name"
	while read -r lib; do
		install -D "$lib" "$dir$lib"
	done < <(ldd "$program" | grep -oE '/[^ ]+')
}

# All that init needs, in the order that rights() prints.
needed_capabilities() {
	printf 'NET_ADMIN PERFMON BPF'
	printf '5.11\n%s\n' "$(uname -r)" | sort -VC || printf ' SYS_RESOURCE'
}

# A node with nothing on its bpffs, whose root has mode $1.
node() {
	! mountpoint -q bpf || umount bpf
	mkdir -p bpf
	mount -t bpf -o "mode=$1" bpf bpf
}

# The next pod's name and network, in /run/netns/$name.
network() {
	pods=$((pods + 1))
	name=pod$pods
	ip netns add "$name"
	ip link add "$name" type veth peer name eth0 netns "$name"
	ip addr add "10.88.$pods.1/24" dev "$name"
	ip link set "$name" up
	ip -n "$name" addr add "10.88.$pods.2/24" dev eth0
	ip -n "$name" link set eth0 up
	ip -n "$name" link set lo up
	: >"pods/$name.termination"
}

# ---- what must be true ---------------------------------------------------------------------------

# What a process may do, from its /proc/…/status.
rights() {
	local -A is
	local key value effective
	while read -r key value; do is[${key%:}]=$value; done <"$1"
	[[ ${is[CapPrm]} == "${is[CapEff]}" && ${is[CapInh]} == "${is[CapAmb]}" ]] || die "odd: $(<"$1")"
	effective=$(capabilities "${is[CapEff]}")
	printf 'uid %s, gid %s, %s' "${is[Uid]%%[[:space:]]*}" "${is[Gid]%%[[:space:]]*}" "$effective"
	[[ ${is[CapBnd]} == "${is[CapEff]}" ]] || printf ' (bounding %s)' "$(capabilities "${is[CapBnd]}")"
	[[ ${is[CapAmb]} =~ ^0+$ ]] || printf ' (ambient %s)' "$(capabilities "${is[CapAmb]}")"
	case ${is[Seccomp]} in
	0) printf ', no seccomp' ;;
	*) printf ', seccomp' ;;
	esac
	[[ ${is[NoNewPrivs]} == 1 ]] || printf ', may gain privileges'
}

# The names of a set of capabilities; bits as in linux/capability.h.
capabilities() {
	local set=$((16#$1)) pair names=
	for pair in 0:CHOWN 12:NET_ADMIN 38:PERFMON 39:BPF 24:SYS_RESOURCE; do
		[[ $((set >> ${pair%:*} & 1)) -eq 0 ]] || names+=" ${pair#*:}"
		set=$((set & ~(1 << ${pair%:*})))
	done
	[[ $set -eq 0 ]] || names+=" $(printf %x "$set")"
	names=${names:- no capability}
	printf %s "${names# }"
}

# What a container has logged, without times and levels, in one line.
logged() {
	said "$1" | sed 's/^[^ ]* *[A-Z]* //' | paste -sd ';' | sed 's/;/; /g'
}

# Fails if $3, what $1 is, is not as pattern $2 says. Prints it.
is() {
	printf '     %-8s %s\n' "$1" "$3"
	# shellcheck disable=SC2053 # a pattern
	[[ $3 == $2 ]] || die "$1: expected $2"
}

# Waits until somebody in the pod listens at port $1.
listening() {
	for _ in {1..50}; do
		[[ -z $(ip netns exec "$name" ss -Hltn "sport = :$1") ]] || return 0
		sleep 0.1
	done
	die "nobody listens at $1"
}

# The lines of the pod's metrics that match $1.
scrape() {
	curl -fsS "10.88.$pods.2:4191/metrics" | grep "$1" || true
}

# 50 requests by 5 connections, of which nginx must have seen each.
traffic() {
	local url=10.88.$pods.2:8080 path
	listening 8080
	for path in a b c d missing/; do
		curl -sS -o /dev/null "$url/${path}[1-10]"
	done
	is app "50 requests" "$(said app | grep -c '"GET /') requests"
}

# The same as the kernel has counted it, at :4191. Retries, for the last ACK may be on its way.
counted() {
	local want got metrics try
	want="50 requests, 40 × 200, 10 × 404, 5 connections, 5 closed, 0 in flight, 0 active"
	for try in {1..20}; do
		metrics=$(scrape '[{,]dst_port="8080"')
		got="$(sum requests_total) requests, $(sum responses_total 'status="200"') × 200,"
		got+=" $(sum responses_total 'status="404"') × 404, $(sum connections_opened_total) connections,"
		got+=" $(sum connections_closed_total) closed, $(sum requests_in_flight) in flight,"
		got+=" $(sum connections_active) active"
		[[ $got != "$want" && $try -lt 20 ]] || break
		sleep 0.1
	done
	is counted "$want" "$got"
}

# The sum of metric $1 over all series that have label $2, if any.
sum() {
	awk -v name="linkerd_ebpf_$1{" -v label="${2:-}" \
		'index($0, name) == 1 && index($0, label) { n += $NF } END { print n + 0 }' <<<"$metrics"
}

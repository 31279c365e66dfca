# A real Prometheus that scrapes an injected pod by what is shipped in manifests/prometheus, of which
# only the discovery is another: a file tells what it would find. The script that reads this has what is
# in common.sh, and says
# - source: the folder of the sources,
# - python: a Python with yaml.
# shellcheck shell=bash

# Starts Prometheus with the jobs of these files in manifests/prometheus.
prometheus_of() {
	local file
	{
		printf 'global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n'
		for file in "$@"; do
			sed -e '/^scrape_configs:$/d' -e 's/kubernetes_sd_configs:/file_sd_configs:/' \
				-e 's/- role: pod/- files: [targets.json]/' "$source/manifests/prometheus/$file"
		done
	} >prometheus.yml
	prometheus --config.file=prometheus.yml --storage.tsdb.path=tsdb \
		--web.listen-address=127.0.0.1:9090 >prometheus.log 2>&1 &
}

# What an expression is: of each series the labels and the value.
query() {
	curl -sS --data-urlencode "query=$1" http://127.0.0.1:9090/api/v1/query |
		jq -r 'if .error then .error else .data.result
			| map((.metric | to_entries | map("\(.key)=\(.value) ") | add // "") + .value[1])
			| sort | join("; ") end'
}

# Waits until expression $3 is $2, which is what $1 says.
becomes() {
	local got
	for _ in {1..100}; do
		got=$(query "$3" 2>&1) || true # until it listens
		[[ $got != "$2" ]] || break
		sleep 0.2
	done
	[[ $got == "$2" ]] || tail -n 5 prometheus.log >&2
	is "$1" "$2" "$got"
}

# The last pod, scraped by each of the jobs after `traffic`: of what the client did, each once.
scraped() {
	local address=10.88.$pods.2 pod of job
	pod="namespace=default node=node-1 pod=$name"
	"$python" "$source/tests/pods/targets" "$address" <"pods/$name.injected" >targets.json
	prometheus_of scrape.yaml scrape-annotations.yaml
	for job in metricd kubernetes-pods; do
		printf '     Prometheus, job %s\n' "$job"
		becomes up "instance=$address:4191 $pod 1" "sum by (instance, namespace, node, pod) (up{job=\"$job\"})"
		of="job=\"$job\", dst_port=\"8080\""
		becomes '' "$pod 50" "sum by (namespace, node, pod) (linkerd_ebpf_requests_total{$of})"
		becomes '' 'status=200 40; status=404 10' "sum by (status) (linkerd_ebpf_responses_total{$of})"
		becomes '' 'reason=fin 5' "sum by (reason) (linkerd_ebpf_connections_closed_total{$of}) > 0"
		becomes '' 50 "sum(linkerd_ebpf_request_duration_seconds_bucket{$of, le=\"+Inf\"})"
		becomes '' 0 "sum(linkerd_ebpf_requests_in_flight{$of})"
	done
}

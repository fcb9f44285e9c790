module bedplate.dev/devcluster/corefile-replay

go 1.26.0

require github.com/coredns/caddy v1.1.4

# The first process of the node, in mount, network and process namespaces of its own. When it ends, the kernel ends
# every process in them, and with the last process go mounts, interfaces, routes and firewall rules.
# $1: the cluster's folder.
set -eu
folder=$1

# Containers may ask for mounts that spread; ours spread to nothing outside.
mount --make-rshared /

# Paths that programs have built in. What they write there must not be seen outside, nor stay.
mount -t tmpfs node /run
mkdir -p /run/netns /run/lock
mount -t tmpfs node /var/lib
mkdir -p "$folder/logs" "$folder/volumes" /tmp/hostpath_pv
mount --bind "$folder/logs" /var/log
mount --bind "$folder/volumes" /tmp/hostpath_pv

# kubelet insists on these kernel settings, which belong to the whole machine: it is shown what it wants to see.
while read -r value name; do
    shown=/run/sysctl-$(basename "$name")
    echo "$value" >"$shown"
    mount --bind "$shown" "/proc/sys/$name"
done <<END
1 vm/overcommit_memory
0 vm/panic_on_oom
10 kernel/panic
1 kernel/panic_on_oops
1000000 kernel/keys/root_maxkeys
25000000 kernel/keys/root_maxbytes
END

# These belong to the network namespace.
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up

: >"$folder/node.started"
# Orphans come here when they end: `wait` takes them off the list of processes.
while :; do
    sleep 1000 &
    wait $!
done

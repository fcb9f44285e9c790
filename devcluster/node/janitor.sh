# Removes the node's control groups: all that the kernel leaves when its processes are gone. Standard input ends when
# the holder of the cluster does, however it does; no signal ends this before.
# $1: the name of the groups, and of the interface on this machine, which goes a moment after the last process.
trap '' HUP INT TERM
cat >/dev/null
tries=0
while [ $tries -lt 100 ]; do
    # One hierarchy (version 2), or one for each controller (version 1).
    find "/sys/fs/cgroup/$1" /sys/fs/cgroup/*/"$1" -depth -type d -exec rmdir {} \; 2>/dev/null
    [ -n "$(ls -d "/sys/fs/cgroup/$1" /sys/fs/cgroup/*/"$1" "/sys/class/net/$1" 2>/dev/null)" ] || exit 0
    tries=$((tries + 1))
    sleep 0.1
done
exit 1

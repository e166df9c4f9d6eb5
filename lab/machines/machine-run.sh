#!/bin/bash
# machine-run.sh LAB_ID NAME STATE [nspawn arguments]: supervisor of one machine; restarts it when it asks for a reboot (exit 133).
# Started in a mount namespace of its own (unshare -m --propagation private).
set -u
lab=$1 name=$2 state=$3
shift 3
# On a host whose controllers are cgroup v1, nspawn gets a private, pure cgroup2 view, and each machine a cgroup of its own in it and in
# every v1 controller: two machines in one cgroup would share /init.scope and kill each other's units. cpuset is filled before it takes tasks.
for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
  directory=/sys/fs/cgroup/$controller/ferry-$lab-$name
  mkdir -p "$directory" 2>/dev/null || continue
  if [ $controller = cpuset ]; then
    for file in cpus mems; do cat /sys/fs/cgroup/cpuset/cpuset.$file > "$directory/cpuset.$file"; done
  fi
  echo $BASHPID > "$directory/cgroup.procs"
done
v1=$state/cgroup1
mkdir -p "$v1"
mount --rbind /sys/fs/cgroup "$v1"
mount -t tmpfs none /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup || exit 1
group=/sys/fs/cgroup/ferry-$lab-$name
mkdir -p "$group/supervisor"
echo $BASHPID > "$group/supervisor/cgroup.procs"
child= stopping=
trap 'stopping=1; [ -n "$child" ] && kill -TERM "$child"' TERM INT
tries=0
while :; do
  began=$SECONDS
  # pods' cgroups of the boot before: kubelet trips over them
  find "$v1"/*/"ferry-$lab-$name" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null
  mkdir -p "$group/machine"
  (
    echo $BASHPID > "$group/machine/cgroup.procs"
    exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network SYSTEMD_NSPAWN_TMPFS_TMP=0 \
      systemd-nspawn --quiet -D "$state/root" -M "$name" --hostname="$name" --register=no --keep-unit \
      --network-namespace-path="/run/netns/$name" --resolv-conf=off --timezone=off --link-journal=no --console=pipe --boot "$@" < /dev/null
  ) &
  child=$!
  wait $child
  code=$?
  while kill -0 $child 2>/dev/null; do # wait was cut short by our own trap
    wait $child
    code=$?
  done
  echo "machine-run: $name exited $code"
  find "$group/machine" -depth -type d -exec rmdir {} + 2>/dev/null
  if [ $code != 133 ] && [ $code != 0 ] && [ -z "$stopping" ] && [ $((SECONDS - began)) -lt 3 ] && [ $tries -lt 3 ]; then
    tries=$((tries + 1)) # it did not even boot: seen when several labs start at the same moment
    sleep 1
    continue
  fi
  [ $code = 133 ] && [ -z "$stopping" ] || break
  while [ -e "$state/hold" ]; do sleep 0.1; done # a reboot that does not come back
done

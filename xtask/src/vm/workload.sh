# What an aarch64 kernel is recorded doing. Each part says what the recording must
# show of it; tests/offline/aarch64.rs looks there.

# A unit, which is gone before the snapshot is written.
web=/sys/fs/cgroup/system.slice/web.service
mkdir -p $web
echo $$ > $web/cgroup.procs

# Paths, whole and relative; a call that fails; metadata.
cat /etc/hostname
ls /nonexistent
ls -l /etc/hosts
cd /etc
cat ./hosts

# A pipe, and two programs that are there for its two ends.
cat hosts | cat > /tmp/copied

# A server and its client.
nc -l -p 8080 > /tmp/received &
n=0; while [ $n -lt 50 ] && ! grep -q :1F90 /proc/net/tcp /proc/net/tcp6; do sleep 0.1; n=$((n+1)); done
echo hello | nc 127.0.0.1 8080
wait $!

# Names that come and go, and flags of open that have other numbers here.
ln -s /etc/hosts /tmp/link
mv /tmp/link /tmp/moved
dd if=/etc/hosts of=/dev/null iflag=direct,nofollow status=none
mkdir -m 700 /tmp/folder
rm -r /tmp/moved /tmp/folder
truncate -s 0 /tmp/received

# Signals, from another process and from a timer.
sleep 10 &
kill -TERM $!
wait $!
timeout -s INT 0.1 sleep 10

# Calls that no program above makes.
perl /workload.pl

# Secrets, which must not get into the file.
cat 'https://bob:correct-horse@example.org/' --password=battery-staple

# A container that ends and is removed before the snapshot is written.
docker=/sys/fs/cgroup/system.slice/docker-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.scope
mkdir $docker
dash -c "echo \$\$ > $docker/cgroup.procs; exec cat /etc/hostname"
rmdir $docker

# A pod that still waits then, without rights, in a call that has not returned.
pod=/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod8f3c2d1e_0b4a_4c6d_9e8f_a1b2c3d4e5f6.slice
pod=$pod/cri-containerd-fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210.scope
mkdir -p $pod
mkfifo -m 666 /tmp/fifo
dash -c "echo \$\$ > $pod/cgroup.procs; exec chroot --userspec=65534:65534 / cat /tmp/fifo" < /etc/hosts &
n=0; while [ $n -lt 50 ] && ! grep -q ^56 /proc/$!/syscall; do sleep 0.1; n=$((n+1)); done

cd /
echo $$ > /sys/fs/cgroup/cgroup.procs
rmdir $web

# Makes a machine for one test: a root of its own in which nothing of the host can be
# changed, and in it systemd as process 1. Called by machine.rs as process 1 of new
# mount, pid, net, ipc and uts namespaces:
#
#   root.sh STAGE DIRECTORY MARKER PACKAGE
#
# DIRECTORY is empty and ours, MARKER a file of the host, PACKAGE is handed in.
#
# systemd as process 1 tidies /tmp and mounts over /dev. So it is started only when the
# old root is unmounted and what is left has been looked at, and not otherwise.
set -eu
stage=$1 directory=$2 marker=$3 package=$4

if [ "$stage" = cgroup ]; then
    # /proc is still the host's, and so is this number.
    read -r pid rest < /proc/self/stat
    echo "pid $pid"
    # A control group of its own, which becomes the root of what it sees.
    mkdir "$directory/cgroup" "$directory/root"
    mount -t cgroup2 none "$directory/cgroup"
    name=${directory##*/}
    mkdir "$directory/cgroup/$name"
    echo 0 > "$directory/cgroup/$name/cgroup.procs"
    exec unshare --cgroup sh "$0" root "$directory" "$marker" "$package"
fi

[ -e "$marker" ]
host_root=$(stat -c %d:%i /)
root=$directory/root
mount -t tmpfs -o mode=755,size=1g none "$root"
cd "$root"
mkdir usr etc var var/lib var/log var/lib/dpkg var/lib/dpkg/info var/lib/dpkg/updates \
    run tmp dev proc sys root old upper work units
chmod 1777 tmp
touch var/lib/dpkg/status var/lib/dpkg/available
cp "$package" recorder.deb

# The host's programs; what is written goes into the tmpfs.
mount -t overlay -o "lowerdir=/usr,upperdir=$root/upper,workdir=$root/work" none usr
for link in bin sbin lib lib64; do
    if [ -e "/$link" ]; then ln -s "usr/$link" "$link"; fi
done

mount -t proc -o nosuid,nodev,noexec none proc
mount -t sysfs -o nosuid,nodev,noexec none sys
mount -t cgroup2 -o nosuid,nodev,noexec none sys/fs/cgroup
# Not all of these belong to a namespace.
mount -o remount,bind,ro sys
for path in proc/sys proc/sysrq-trigger proc/irq proc/bus proc/fs; do
    if [ -e "$path" ]; then
        mount --bind "$path" "$path"
        mount -o remount,bind,ro "$path"
    fi
done

mount -t tmpfs -o mode=755 none dev
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 none dev/pts
mount -t tmpfs -o mode=1777 none dev/shm
for node in null:3 zero:5 full:7 random:8 urandom:9; do
    mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"
done
mknod -m 666 dev/tty c 5 0
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 none run

# The units there are, and no others: nothing else can be pulled in.
for unit in basic local-fs multi-user network-online paths shutdown slices sockets \
    sysinit timers umount; do
    cp "/usr/lib/systemd/system/$unit.target" units
done
for unit in systemd-journald.service systemd-journald.socket systemd-journald-dev-log.socket; do
    cp "/usr/lib/systemd/system/$unit" units
done
mount -t tmpfs -o mode=755 none usr/lib/systemd/system
cp units/* usr/lib/systemd/system
for folder in system-generators system-environment-generators system-shutdown system-sleep; do
    if [ -d "usr/lib/systemd/$folder" ]; then
        mount -t tmpfs -o mode=755 none "usr/lib/systemd/$folder"
    fi
done
cat > usr/lib/systemd/system/recorder-test.target <<'END'
[Unit]
Description=What the test needs
Requires=basic.target systemd-journald.socket systemd-journald.service
After=basic.target systemd-journald.service
END

mkdir -p etc/systemd/system
printf '[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\n' > etc/systemd/journald.conf
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n' \
    > etc/passwd
printf 'root:x:0:\nsystemd-journal:x:990:\nnogroup:x:65534:\n' > etc/group
printf 'passwd: files\ngroup: files\nshadow: files\n' > etc/nsswitch.conf
printf '%s\n' 0123456789abcdef0123456789abcdef > etc/machine-id
echo machine > etc/hostname
hostname machine
for file in ld.so.cache os-release; do
    if [ -e "/etc/$file" ]; then cp "/etc/$file" etc; fi
done

pivot_root . old
cd /
umount -l /old
rmdir /old

# Is it true? Otherwise nothing is started.
refuse() {
    echo "refused: $1"
    exit 1
}
if [ -e "$marker" ]; then refuse "a file of the host is in sight: $marker"; fi
if [ "$(stat -c %d:%i /)" = "$host_root" ]; then refuse "this is the root of the host"; fi
while read -r line; do
    after=${line#* - }
    case ${after%% *} in
    tmpfs | overlay | proc | sysfs | cgroup2 | devpts) ;;
    *) refuse "a file system of the host is mounted: $line" ;;
    esac
done < /proc/self/mountinfo

echo booting
# `container` tells it to leave clock, modules, consoles and devices alone.
exec env -i container=recorder-test PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 \
    /usr/lib/systemd/systemd --unit=recorder-test.target --log-level=notice

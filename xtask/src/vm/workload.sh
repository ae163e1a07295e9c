mkdir -p /sys/fs/cgroup/system.slice/web.service
echo $$ > /sys/fs/cgroup/system.slice/web.service/cgroup.procs
cat /etc/hostname
ls /nonexistent
cd /etc
cat ./hosts
mkfifo /tmp/fifo
nc -l -p 8080 -s 127.0.0.1 > /tmp/received &
n=0; while [ $n -lt 50 ] && ! grep -q 1F90 /proc/net/tcp; do sleep 0.1; n=$((n+1)); done
echo hello | nc 127.0.0.1 8080
wait $!
ln -s /etc/hosts /tmp/link
mv /tmp/link /tmp/moved
rm /tmp/moved /tmp/fifo
truncate -s 0 /tmp/received
sleep 0.01 &
kill -TERM $!
wait $!
cd /
echo $$ > /sys/fs/cgroup/cgroup.procs
rmdir /sys/fs/cgroup/system.slice/web.service

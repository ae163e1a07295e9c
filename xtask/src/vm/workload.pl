# Calls by their numbers on aarch64 (include/uapi/asm-generic/unistd.h), and calls of the
# C library that are others there than on x86-64: it has no open, pipe, dup2, fork or
# rename.

my ($cwd, $true) = (-100, 1);
my ($etc, $scratch, $worker) = ("/etc", "scratch", "worker"); # Literals are refused.

# Files.
mkdir "/tmp/perl", 0750;
open my $file, "+>", "/tmp/perl/a";
syswrite $file, "line\n";
truncate $file, 3;
chmod 0640, "/tmp/perl/a";
chown 1, 2, "/tmp/perl/a";
utime 1, 2, "/tmp/perl/a";
link "/tmp/perl/a", "/tmp/perl/b";
symlink "a", "/tmp/perl/c";
readlink "/tmp/perl/c";
rename "/tmp/perl/b", "/tmp/perl/d";
unlink "/tmp/perl/d", "/tmp/perl/missing";
sysopen my $folder, "/tmp/perl", 040000 | 0100000;     # O_DIRECTORY|O_NOFOLLOW
sysopen my $unnamed, "/tmp/perl", 020040002, 0600;     # O_RDWR|O_TMPFILE
sysopen my $direct, "/tmp/perl/a", 0200000 | 0400000;  # O_DIRECT|O_LARGEFILE
fcntl $file, 3, 0;                                     # F_GETFL
my $lock = pack "s s x4 q q l x4", 1, 0, 0, 10, 0;
fcntl $file, 6, $lock;                                 # F_SETLK
my $how = pack "Q3", 012040000, 0, 4;
syscall 437, $cwd, $etc, $how, length $how;            # openat2

# Memory. The last word of the second exists on aarch64 alone.
my $page = syscall 222, 0, 4096, 3, 0x22, -1, 0; # mmap
syscall 226, $page, 4096, 0x15;                  # mprotect, PROT_READ|PROT_EXEC|PROT_BTI
syscall 279, $scratch, 3;                          # memfd_create

# Waiting. An epoll_event is packed on x86-64 alone.
pipe my $read, my $write;
my $epoll = syscall 20, 02000000;                                # epoll_create1
my $event = pack "L x4 Q", 1, 4242;
syscall 21, $epoll, 1, fileno $read, $event;                     # epoll_ctl
syswrite $write, "x";
my $events = "\0" x 32;
syscall 22, $epoll, $events, 2, 1000, 0, 8;                      # epoll_pwait
syscall 19, 1, 02004000;                                         # eventfd2
my $timer = syscall 85, 1, 02004000;                             # timerfd_create
my $when = pack "q4", 0, 0, 1, 500_000_000;
syscall 86, $timer, 0, $when, 0;                                 # timerfd_settime
select undef, undef, undef, 0.01;

# Sockets, and a descriptor that goes from one to the other.
socketpair my $left, my $right, 1, 1, 0;
my $data = "hello";
my $vector = pack "P Q", $data, length $data;
my $rights = pack "Q l l l x4", 20, 1, 1, fileno $file;
my $message = pack "Q Q P Q P Q l x4", 0, 0, $vector, 1, $rights, length $rights, 0;
syscall 211, fileno $left, $message, 0x4000;                     # sendmsg
my $room = "\0" x 16;
my $rooms = pack "P Q", $room, length $room;
my $control = "\0" x 64;
my $received = pack "Q Q P Q P Q l x4", 0, 0, $rooms, 1, $control, length $control, 0;
syscall 212, fileno $right, $received, 0x4000_0000;              # recvmsg
socket my $datagrams, 10, 2, 0;
connect $datagrams, pack("S n N a16 N", 10, 53, 0, "\0" x 15 . "\1", 0);
setsockopt $datagrams, 1, 6, $true;                              # SO_BROADCAST

# Between processes.
my $semaphores = semget 0, 1, 01600;
my $operation = pack "S s s", 0, 1, 04000;
semop $semaphores, $operation;
semctl $semaphores, 0, 0, 0;

# Signals and children.
$SIG{USR1} = sub { };
kill USR1 => $$;
my $child = fork;
syscall 94, 3 if $child == 0;                                    # exit_group
waitpid $child, 0;
$child = fork;
if ($child == 0) { syscall 167, 15, $worker; kill KILL => $$; } # prctl, PR_SET_NAME
waitpid $child, 0;
syscall 9999, 1, 2;

# Who one is.
$) = "2 2";
$> = 1;

# Without what perl does at an end: it asks for every signal.
syscall 94, 0;

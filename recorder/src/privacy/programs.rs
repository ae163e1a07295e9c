//! Programs whose short options take secrets. What an option means differs from one
//! program to the next: `-p` makes directories, names a port, or is a password.

/// How an option says its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// `-p x` or `-px`.
    Value,
    /// Only `-px`.
    Attached,
    /// Only `-p x`; also an option of several letters.
    Next,
    /// `user:password` in either form.
    Pair,
    /// `user:password@host` in either form; a URL is one anyway.
    Proxy,
    /// `user%password` in either form.
    Percent,
    /// `user,password` in either form.
    Comma,
    /// `pass:x`, what OpenSSL calls a source.
    Source,
    /// `name=x`: what follows the sign.
    Named,
    /// A flag; the secret is the last argument.
    Last,
    /// Not an option: a word, and behind it so many others, and then the secret.
    Word(u8),
}

/// A program.
#[derive(Debug)]
pub(super) struct Program {
    /// What it is called; a name that ends with `*` begins so.
    pub(super) names: &'static [&'static str],
    /// A word without which the options mean something else.
    pub(super) needs: &'static str,
    /// Its options.
    pub(super) options: &'static [(&'static str, Takes)],
}

const fn program(
    names: &'static [&'static str],
    options: &'static [(&'static str, Takes)],
) -> Program {
    Program { names, needs: "", options }
}

/// Every program that is known.
pub(super) const PROGRAMS: &[Program] = &[
    program(&["mysql*", "mariadb*", "mycli", "xtrabackup", "mytop"], &[("-p", Takes::Attached)]),
    program(&["sshpass"], &[("-p", Takes::Value)]),
    program(
        &["curl"],
        &[
            ("-u", Takes::Pair),
            ("-U", Takes::Pair),
            ("--user", Takes::Pair),
            ("--proxy-user", Takes::Pair),
            ("-E", Takes::Pair),
            ("--cert", Takes::Pair),
            ("-b", Takes::Named),
            ("--oauth2-bearer", Takes::Next),
            ("-x", Takes::Proxy),
            ("--proxy", Takes::Proxy),
        ],
    ),
    program(&["http", "https", "xh", "xhs"], &[("-a", Takes::Pair), ("--auth", Takes::Pair)]),
    program(&["ab", "hey"], &[("-A", Takes::Pair), ("-a", Takes::Pair)]),
    program(
        &["redis-cli", "valkey-cli", "keydb-cli"],
        &[
            ("-a", Takes::Value),
            ("--pass", Takes::Next),
            ("auth", Takes::Word(0)),
            ("auth", Takes::Word(1)),
            ("requirepass", Takes::Word(0)),
            ("masterauth", Takes::Word(0)),
        ],
    ),
    program(
        &[
            "mongo",
            "mongosh",
            "mongodump",
            "mongorestore",
            "mongoexport",
            "mongoimport",
            "mongostat",
        ],
        &[("-p", Takes::Value)],
    ),
    program(&["ldappasswd"], &[("-s", Takes::Next), ("-a", Takes::Next)]),
    program(&["ldap*"], &[("-w", Takes::Value)]),
    program(
        &["smbclient", "rpcclient", "smbget", "smbmap", "net", "wmic", "winexe"],
        &[("-U", Takes::Percent), ("--user", Takes::Percent)],
    ),
    program(
        &["openssl"],
        &[
            ("-pass", Takes::Source),
            ("-passin", Takes::Source),
            ("-passout", Takes::Source),
            ("-password", Takes::Source),
            ("-k", Takes::Next),
            ("-K", Takes::Next),
            ("-hmac", Takes::Next),
        ],
    ),
    program(&["zip", "unzip", "zipcloak", "unzipsfx"], &[("-P", Takes::Value)]),
    program(
        &["7z", "7za", "7zr", "7zz", "rar", "unrar"],
        &[("-p", Takes::Attached), ("-hp", Takes::Attached)],
    ),
    program(&["sqlcmd", "osql", "bcp", "isql", "tsql"], &[("-P", Takes::Value)]),
    program(&["ipmitool", "ipmiutil"], &[("-P", Takes::Value)]),
    program(&["racadm"], &[("-p", Takes::Value)]),
    program(
        &["snmp*"],
        &[("-c", Takes::Value), ("-A", Takes::Value), ("-X", Takes::Value), ("-3m", Takes::Next)],
    ),
    program(&["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"], &[("-P", Takes::Value)]),
    program(&["mosquitto_passwd", "htpasswd"], &[("-b", Takes::Last)]),
    program(&["useradd", "usermod", "newusers"], &[("-p", Takes::Value)]),
    program(&["lftp"], &[("-u", Takes::Comma)]),
    program(&["xfreerdp", "xfreerdp3", "wlfreerdp"], &[("/p:", Takes::Attached)]),
    program(&["rdesktop"], &[("-p", Takes::Value)]),
    program(&["x11vnc"], &[("-passwd", Takes::Next), ("-storepasswd", Takes::Next)]),
    program(&["impacket-*", "crackmapexec", "netexec", "hydra"], &[("-p", Takes::Value)]),
    program(&["nmcli"], &[("password", Takes::Word(0)), ("wifi-sec.psk", Takes::Word(0))]),
    program(&["wpa_passphrase"], &[("wpa_passphrase", Takes::Word(1))]),
    program(&["rclone"], &[("obscure", Takes::Word(0)), ("reveal", Takes::Word(0))]),
    program(
        &["rabbitmqctl"],
        &[
            ("add_user", Takes::Word(1)),
            ("change_password", Takes::Word(1)),
            ("authenticate_user", Takes::Word(1)),
        ],
    ),
    program(
        &["aws"],
        &[
            ("aws_secret_access_key", Takes::Word(0)),
            ("aws_session_token", Takes::Word(0)),
            ("--secret-string", Takes::Next),
        ],
    ),
    Program {
        needs: "login",
        names: &["docker", "podman", "nerdctl", "buildah", "skopeo", "helm"],
        options: &[("-p", Takes::Value)],
    },
    Program {
        needs: "login",
        names: &["az", "oc", "npm", "argocd", "cf"],
        options: &[("-p", Takes::Value)],
    },
    Program { needs: "login", names: &["vault", "bao"], options: &[("login", Takes::Word(0))] },
    Program {
        needs: "secret",
        names: &["kubectl", "oc", "k3s", "microk8s.kubectl"],
        options: &[("--from-literal", Takes::Named)],
    },
    Program {
        needs: "secret",
        names: &["gh", "glab"],
        options: &[("-b", Takes::Value), ("--body", Takes::Next)],
    },
];

/// Programs that start the one their other arguments name.
pub(super) const STARTERS: &[&str] = &[
    "sudo",
    "doas",
    "env",
    "nice",
    "nohup",
    "timeout",
    "time",
    "strace",
    "ltrace",
    "xargs",
    "setsid",
    "chroot",
    "unshare",
    "nsenter",
    "runuser",
    "su",
    "ssh",
    "watch",
    "parallel",
    "chrt",
    "ionice",
    "taskset",
    "stdbuf",
    "command",
    "exec",
    "busybox",
    "systemd-run",
    "flock",
    "script",
    "unbuffer",
    "gosu",
    "su-exec",
    "tini",
    "dumb-init",
    "faketime",
    "fakeroot",
    "ip",
    "cgexec",
    "systemd-inhibit",
    "setpriv",
    "capsh",
    "torsocks",
    "proxychains",
    "proxychains4",
    "vagrant",
];

/// Programs that do so behind the word `exec`.
pub(super) const CONTAINERS: &[&str] = &[
    "docker",
    "podman",
    "nerdctl",
    "kubectl",
    "crictl",
    "ctr",
    "lxc",
    "incus",
    "oc",
    "docker-compose",
    "machinectl",
    "k3s",
];

impl Program {
    /// Whether it is called so.
    pub(super) fn is_called(&self, name: &[u8]) -> bool {
        self.names.iter().any(|known| match known.strip_suffix('*') {
            Some(begins) => name.starts_with(begins.as_bytes()),
            None => name == known.as_bytes(),
        })
    }
}

//! Secrets as people leave them on command lines and in URLs, made from a seed: none of
//! them ever was one.

use crate::synth::Random;

/// A secret, and the command line it was left on.
#[derive(Clone, Debug)]
pub struct Planted {
    /// What it is.
    pub kind: &'static str,
    /// Whether it is known by its shape, wherever it stands.
    pub is_shaped: bool,
    /// The bytes nobody may find again.
    pub secret: String,
    /// The arguments, the program's name first.
    pub arguments: Vec<String>,
}

/// The kinds, each with what makes one and the lines it stands on, `{}` in its place.
/// Words are separated by two blanks, so that an argument can have one.
const KINDS: &[(&str, Maker, &[&str])] = &[
    (
        "password as an option",
        |random| any(random, 14),
        &[
            "mysqldump  --user=app  --password={}  shop",
            "mysql  -uapp  -p{}  shop",
            "tool  --db-password  {}  --verbose",
            "sshpass  -p  {}  ssh  backup",
            "java  -Dspring.datasource.password={}  -jar  a.jar",
            "redis-cli  -h  db  -a  {}  ping",
        ],
    ),
    (
        "password as an assignment",
        |random| word(random, 16),
        &[
            "env  DB_PASSWORD={}  ./serve",
            "sh  -c  PGPASSWORD={} psql -h db -c 'select 1'",
            "mount.cifs  //nas/x  /mnt  -o  username=app,password={},vers=3.0",
            "docker  run  -e  MYSQL_ROOT_PASSWORD={}  mysql:8",
            "psql  host=db user=app password={} dbname=shop",
            "sqlcmd  -Q  x  Server=db;User Id=app;Password={};Encrypt=yes",
        ],
    ),
    (
        "password in a URL",
        |random| word(random, 18),
        &[
            "psql  postgres://app:{}@db.internal:5432/shop",
            "git  clone  https://bot:{}@git.example/team/repo.git",
            "curl  -x  http://proxy:{}@10.0.0.1:3128  https://example.org/",
            "celery  --broker=amqp://app:{}@mq:5672/%2f",
            "tool  redis://:{}@cache:6379/0",
            "sh  -c  mongodump --uri='mongodb://app:{}@a:27017,b:27017/x'",
        ],
    ),
    (
        "basic authentication",
        |random| word(random, 16),
        &[
            "curl  -u  app:{}  https://example.org/",
            "curl  -sSfu  app:{}  https://example.org/",
            "wget  --http-user=app  --http-password={}  https://example.org/",
            "http  -a  app:{}  https://example.org/",
            "curl  -H  Authorization: Basic {}==  https://example.org/",
            "curl  --proxy-user  app:{}  https://example.org/",
        ],
    ),
    (
        "bearer token",
        |random| from(random, URL, 32),
        &[
            "curl  -H  Authorization: Bearer {}  https://example.org/",
            "sh  -c  curl -H 'Authorization: Bearer {}' https://example.org/",
            "wget  --header=Authorization: Bearer {}  https://example.org/",
            "grpcurl  -rpc-header  authorization: bearer {}  host:443  list",
        ],
    ),
    (
        "token in a query",
        |random| from(random, URL, 28),
        &[
            "curl  https://example.org/api?page=1&access_token={}&sort=up",
            "wget  https://example.org/feed?token={}",
            "curl  -d  grant_type=refresh_token&refresh_token={}&scope=x  https://example.org/",
            "xdg-open  https://example.org/login?next=%2F&code={}#top",
        ],
    ),
    (
        "signature of a URL",
        |random| from(random, HEX, 64),
        &[
            "curl  https://b.s3.example/o?X-Amz-Expires=300&X-Amz-Signature={}&x=1",
            "azcopy  copy  https://a.blob.example/c?sv=2022-11-02&sp=r&sig={}%3D  .",
            "curl  https://cdn.example/v.mp4?expires=1&signature={}",
        ],
    ),
    (
        "api key",
        |random| from(random, ALNUM, 32),
        &[
            "curl  -H  X-Api-Key: {}  https://example.org/",
            "tool  --api-key  {}  run",
            "tool  --apikey={}  run",
            "curl  https://maps.example/json?q=x&key={}",
            "export-metrics  DD_API_KEY={}",
            "curl  -d  {\"api_key\": \"{}\", \"n\": 1}  https://example.org/",
        ],
    ),
    (
        "secret of a client",
        |random| from(random, ALNUM, 40),
        &[
            "curl  -d  client_id=app&client_secret={}&grant_type=x  https://example.org/",
            "oauth2-proxy  --client-secret={}  --cookie-name=x",
            "kubectl  create  secret  generic  x  --from-literal=value={}",
            "env  OAUTH_CLIENT_SECRET={}  ./serve",
        ],
    ),
    (
        "cookie",
        |random| from(random, ALNUM, 26),
        &[
            "curl  -H  Cookie: theme=dark; session={}  https://example.org/",
            "curl  -b  session={}  https://example.org/",
            "curl  --cookie  PHPSESSID={}  https://example.org/",
        ],
    ),
    ("key of Amazon", |random| format!("AKIA{}", from(random, CAPITAL, 16)), SHAPED),
    (
        "secret key of Amazon",
        |random| from(random, BASE64, 40),
        &[
            "env  AWS_SECRET_ACCESS_KEY={}  aws  s3  ls",
            "aws  configure  set  aws_secret_access_key  {}",
            "terraform  apply  -var  secret_key={}",
            "s3cmd  --access_key=x  --secret_key={}  ls",
        ],
    ),
    ("token of GitHub", |random| format!("ghp_{}", from(random, ALNUM, 36)), SHAPED),
    ("token of GitLab", |random| format!("glpat-{}", from(random, URL, 20)), SHAPED),
    (
        "token of Slack",
        |random| {
            let (a, b) = (from(random, DIGITS, 12), from(random, DIGITS, 13));
            format!("xoxb-{a}-{b}-{}", from(random, ALNUM, 24))
        },
        SHAPED,
    ),
    ("key of Stripe", |random| format!("sk_live_{}", from(random, ALNUM, 24)), SHAPED),
    ("key of Google", |random| format!("AIza{}", from(random, URL, 35)), SHAPED),
    (
        "signed token",
        |random| {
            let claims = format!("eyJ{}", from(random, URL, 40));
            format!("eyJhbGciOiJIUzI1NiJ9.{claims}.{}", from(random, URL, 43))
        },
        SHAPED,
    ),
    (
        "private key",
        |random| from(random, BASE64, 64),
        &[
            "ssh-add  -----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
            "sh  -c  echo '-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----' > k",
            "tool  --key=-----BEGIN PRIVATE KEY-----\n{}\n",
        ],
    ),
    ("token of npm", |random| format!("npm_{}", from(random, ALNUM, 36)), SHAPED),
    ("token of PyPI", |random| format!("pypi-AgEIcHlwaS5vcmc{}", from(random, URL, 70)), SHAPED),
    (
        "key of SendGrid",
        |random| format!("SG.{}.{}", from(random, URL, 22), from(random, URL, 43)),
        SHAPED,
    ),
    ("key of Twilio", |random| format!("SK{}", from(random, HEX, 32)), SHAPED),
    ("token of Vault", |random| format!("hvs.{}", from(random, URL, 90)), SHAPED),
    ("key of age", |random| format!("AGE-SECRET-KEY-1{}", from(random, CAPITAL, 58)), SHAPED),
    ("token of DigitalOcean", |random| format!("dop_v1_{}", from(random, HEX, 64)), SHAPED),
    ("key of Heroku", |random| format!("HRKU-{}", from(random, URL, 60)), SHAPED),
    (
        "secret of Azure",
        |random| {
            let (head, digit) = (from(random, ALNUM, 3), from(random, DIGITS, 1));
            format!("{head}{digit}Q~{}", from(random, ALNUM, 34))
        },
        SHAPED,
    ),
];

type Maker = fn(&mut Random) -> String;

/// Where a secret stands that is known by its shape.
const SHAPED: &[&str] = &[
    "deploy  {}",
    "cat  /srv/cache/{}/index",
    "tool  --message=it was {} all the time",
    "git  push  https://x-access-token:{}@git.example/a/b",
    "sh  -c  run --with {} | head",
    "python3  -c  connect(\"{}\")",
    "tool  --anything={}",
    "curl  https://example.org/{}?page=1",
];

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const CAPITAL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// What stands in passwords that are written in the middle of something.
const WORD: &[u8] = b"ABCDEFGHabcdefghijklmnopqrstuvwxyz0123456789!*_+-.~^";
/// And where they have an argument of their own.
const ANY: &[u8] =
    b"ABCDEFGHabcdefghijklmnopqrstuvwxyz0123456789!*_+-.~^ $&;,:/\\?#%@'\"()[]{}<>|=`";

fn from(random: &mut Random, letters: &[u8], count: usize) -> String {
    let letter = |random: &mut Random| letters[random.below(letters.len() as u64) as usize];
    // A token begins and ends with what no rule takes for its surroundings.
    let alnum = |random: &mut Random| loop {
        let byte = letter(random);
        if byte.is_ascii_alphanumeric() {
            return char::from(byte);
        }
    };
    let mut made = String::from(alnum(random));
    made.extend((2..count).map(|_| char::from(letter(random))));
    made.push(alnum(random));
    // Short ones must not stand anywhere by chance.
    made.truncate(count);
    made
}

fn word(random: &mut Random, count: usize) -> String {
    from(random, WORD, count)
}

fn any(random: &mut Random, count: usize) -> String {
    from(random, ANY, count)
}

/// So many secrets, of every kind in turn and on every line of it.
pub fn planted(seed: u64, count: usize) -> Vec<Planted> {
    let mut random = Random::new(seed);
    let plant = |place: usize| {
        let (kind, make, lines) = KINDS[place % KINDS.len()];
        let secret = make(&mut random);
        let line = lines[place / KINDS.len() % lines.len()];
        let arguments = line.split("  ").map(|word| word.replace("{}", &secret)).collect();
        Planted { kind, is_shaped: std::ptr::eq(lines, SHAPED), secret, arguments }
    };
    (0..count).map(plant).collect()
}

/// How many kinds there are.
pub fn kinds() -> usize {
    KINDS.len()
}

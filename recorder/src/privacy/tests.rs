use super::*;

fn masker() -> Masker {
    Privacy::new(Rules::default()).masker()
}

fn text(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    masker().mask_vec(&mut bytes, Form::Text, false);
    String::from_utf8(bytes).unwrap()
}

fn arguments(words: &[&str]) -> Vec<String> {
    let mut bytes: Vec<u8> =
        words.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect();
    let before = bytes.clone();
    masker().mask_vec(&mut bytes, Form::Arguments, false);
    let masked = String::from_utf8(bytes.clone()).unwrap();
    masker().mask_vec(&mut bytes, Form::Arguments, false);
    assert_eq!(masked.as_bytes(), bytes, "masked again: {words:?}");
    assert_eq!(bytes.last(), before.last());
    masked.strip_suffix('\0').unwrap_or_default().split('\0').map(str::to_string).collect()
}

/// A command line as a list, blanks between its words.
fn line(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    arguments(&words).join(" ")
}

#[test]
fn options_and_assignments_are_masked_and_the_rest_stays() {
    for (given, masked) in [
        ("mysql -u root -phunter2 shop", "mysql -u root -p*** shop"),
        ("mysql -p shop", "mysql -p shop"),
        ("/usr/bin/mysqldump --password=hunter2 shop", "/usr/bin/mysqldump --password=*** shop"),
        ("sudo -u bob mysql -phunter2", "sudo -u bob mysql -p***"),
        ("docker exec -i db mysql -phunter2", "docker exec -i db mysql -p***"),
        ("docker run -p3306:3306 mysql", "docker run -p3306:3306 mysql"),
        ("docker login -u bob -p hunter2 host", "docker login -u bob -p *** host"),
        ("mkdir -p secret", "mkdir -p secret"),
        ("sshpass -p hunter2 ssh host", "sshpass -p *** ssh host"),
        ("sshpass -phunter2 ssh host", "sshpass -p*** ssh host"),
        ("curl -u bob:hunter2 https://h/", "curl -u bob:*** https://h/"),
        ("curl -sSu bob:hunter2 https://h/", "curl -sSu bob:*** https://h/"),
        ("curl -ubob:hunter2 https://h/", "curl -ubob:*** https://h/"),
        ("curl --user=bob:hunter2 https://h/", "curl --user=bob:*** https://h/"),
        ("curl -x bob:hunter2@proxy:80 h", "curl -x bob:***@proxy:80 h"),
        ("curl -x proxy:80 h", "curl -x proxy:80 h"),
        ("tool --api-key abc --verbose", "tool --api-key *** --verbose"),
        ("tool --password-file f --x", "tool --password-file f --x"),
        ("tool --ask-pass host", "tool --ask-pass host"),
        ("tool -password hunter2", "tool -password ***"),
        ("ffmpeg -pass 1 -i a", "ffmpeg -pass 1 -i a"),
        ("env DB_PASSWORD=hunter2 ./run", "env DB_PASSWORD=*** ./run"),
        ("redis-cli -a hunter2 ping", "redis-cli -a *** ping"),
        ("redis-cli AUTH hunter2", "redis-cli AUTH ***"),
        ("ldapsearch -xw hunter2 -b dc=x", "ldapsearch -xw *** -b dc=x"),
        ("smbclient -U bob%hunter2 //h/s", "smbclient -U bob%*** //h/s"),
        ("openssl rsa -passin pass:hunter2 -in k", "openssl rsa -passin pass:*** -in k"),
        ("openssl rsa -passin env:PW", "openssl rsa -passin env:PW"),
        ("7z a -phunter2 x.7z", "7z a -p*** x.7z"),
        ("htpasswd -bc f bob hunter2", "htpasswd -bc f bob ***"),
        ("nmcli dev wifi connect x password hunter2", "nmcli dev wifi connect x password ***"),
        (
            "aws configure set aws_secret_access_key hunter2",
            "aws configure set aws_secret_access_key ***",
        ),
        (
            "kubectl create secret generic x --from-literal=a=hunter2",
            "kubectl create secret generic x --from-literal=a=***",
        ),
        (
            "mount -o username=bob,password=hunter2,vers=3 //h/s",
            "mount -o username=bob,password=***,vers=3 //h/s",
        ),
        ("npm config set //r.io/:_authToken hunter2", "npm config set //r.io/:_authToken ***"),
    ] {
        assert_eq!(line(given), masked);
    }
}

#[test]
fn command_lines_within_arguments_are_looked_into() {
    for (given, masked) in [
        ("mysql -phunter2 shop | head", "mysql -p*** shop | head"),
        ("PASSWORD=hunter2 ./run --fast", "PASSWORD=*** ./run --fast"),
        ("PASSWORD='two words' ./run", "PASSWORD='***' ./run"),
        ("mysql -p$PASSWORD --token=$TOKEN", "mysql -p$PASSWORD --token=$TOKEN"),
        ("curl -H 'Authorization: Bearer hunter2' h", "curl -H 'Authorization: Bearer ***' h"),
        ("ssh h \"mysql -phunter2\"", "ssh h \"mysql -p***\""),
        ("psql -c \"ALTER ROLE x PASSWORD 'hunter2'\"", "psql -c \"ALTER ROLE x PASSWORD '***'\""),
        ("cd /x; curl -u bob:hunter2 h && ls", "cd /x; curl -u bob:*** h && ls"),
    ] {
        let masked_line = arguments(&["sh", "-c", given]).pop().unwrap();
        assert_eq!(masked_line, masked);
    }
    let whole = arguments(&["env", "PASSWORD=three short words", "run"]);
    assert_eq!(whole, ["env", "PASSWORD=***", "run"]);
}

#[test]
fn urls_headers_and_json_keep_what_is_no_secret() {
    for (given, masked) in [
        ("postgres://bob:hunter2@db:5432/shop", "postgres://bob:***@db:5432/shop"),
        ("redis://:hunter2@db", "redis://:***@db"),
        ("https://bob:a/b@c@host/x", "https://bob:***@host/x"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("https://git@github.com/a/b", "https://git@github.com/a/b"),
        ("https://h/p?token=hunter2&page=2", "https://h/p?token=***&page=2"),
        ("https://h/p?a=1&X-Amz-Signature=0af3&b=2", "https://h/p?a=1&X-Amz-Signature=***&b=2"),
        ("https://h/p?key=hunter2", "https://h/p?key=***"),
        ("/cgi/x?sig=a/b%2Bc#top", "/cgi/x?sig=***#top"),
        ("bob:hunter2@tcp(db:3306)/shop", "bob:***@tcp(db:3306)/shop"),
        ("Authorization: Basic Ym9iOmh1bnRlcjI=", "Authorization: Basic ***"),
        ("X-Api-Key: hunter2", "X-Api-Key: ***"),
        (
            "{\"user\":\"bob\",\"password\": \"a\\\"b\",\"n\":1}",
            "{\"user\":\"bob\",\"password\": \"***\",\"n\":1}",
        ),
        ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
        ("/srv/token=hunter2/file.txt", "/srv/token=***/file.txt"),
        ("grant_type=x&client_secret=hunter2&b=1", "grant_type=x&client_secret=***&b=1"),
        ("Server=db;Password=hunter2;Encrypt=yes", "Server=db;Password=***;Encrypt=yes"),
        ("next=%2Fx%3Ftoken%3Dhunter2%26b%3D1", "next=%2Fx%3Ftoken%3D***%26b%3D1"),
    ] {
        assert_eq!(text(given), masked);
        assert_eq!(text(masked), masked);
    }
}

#[test]
fn ordinary_strings_are_left_alone() {
    for given in [
        "/usr/lib/x86_64-linux-gnu/libpthread.so.0",
        "/var/lib/docker/overlay2/3f4e5d6c7b8a9f0e1d2c3b4a5f6e7d8c9b0a1f2e3d4c5b6a7f8e9d0c1b2a3f4e/merged",
        "/nix/store/0c1ik8wgb8z4xy2hqpnyz7m9l8w5v4qd-glibc-2.38/lib/libc.so.6",
        "--key-file=/etc/ssl/private/key.pem",
        "--token-ttl=30m",
        "--private-key=/srv/keys/id_ed25519",
        "password: ",
        "key=value",
        "std::secret::Token",
        "nginx:1.25@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "https://example.org/a?page=2&code_style=x",
        "db_password:/run/secrets/db_password",
        "",
    ] {
        assert_eq!(text(given), given);
    }
}

/// Every shape, where it stands alone, in a path, and behind an escape.
#[test]
fn tokens_are_known_by_their_shape() {
    let body = "9aZ8bY7cX6dW5eV4fU3gT2hS1iR0jQ9kP8lO7mN6nM5oL4pK3";
    let hex = "0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9";
    let capital = "QWERTYUIOP234567ASDFGHJKLZXCVBNM";
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P";
    let tokens = [
        format!("ghp_{}", &body[..36]),
        format!("github_pat_{body}"),
        format!("glpat-{}", &body[..20]),
        format!("xoxb-123456789012-{}", &body[..24]),
        format!("sk_live_{}", &body[..24]),
        format!("AIza{}", &body[..35]),
        format!("npm_{}", &body[..36]),
        format!("pypi-AgEIcHlwaS5vcmc{body}"),
        format!("SG.{}.{}", &body[..22], &body[..43]),
        format!("SK{}", &hex[..32]),
        format!("hvs.{}", &body[..24]),
        format!("AGE-SECRET-KEY-1{capital}"),
        format!("dop_v1_{hex}"),
        format!("HRKU-{}", &body[..36]),
        format!("AKIA{}", &capital[..16]),
        format!("a1B8Q~{}", &body[..34]),
        jwt.to_string(),
    ];
    for token in &tokens {
        for (before, after) in
            [("", ""), ("/srv/", "/x"), ("a b ", " c"), ("\\n", "\\n"), ("x_", "")]
        {
            let given = format!("{before}{token}{after}");
            if before == "x_" && token.contains("Q~") {
                continue;
            }
            assert_eq!(text(&given), format!("{before}***{after}"), "{given}");
        }
    }
    let key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\ndef\n-----END OPENSSH PRIVATE KEY-----\n";
    let masked = arguments(&["ssh-add", key]).pop().unwrap();
    assert_eq!(masked, "-----BEGIN OPENSSH PRIVATE KEY-----***-----END OPENSSH PRIVATE KEY-----\n");
}

/// A path of 4 KiB that ends within a token kept the beginning of it.
#[test]
fn what_was_cut_within_a_secret_is_masked() {
    let cut = |given: &str| {
        let mut bytes = given.as_bytes().to_vec();
        masker().mask_vec(&mut bytes, Form::Arguments, true);
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(cut("a\0ghp_abc"), "a\0***");
    // The name of a thread: a quick look took it for too short.
    assert_eq!(masker().mask(b"ghp_Ab1Cd2Ef3Gh", Form::Text, true), Some(MARKER));
    assert_eq!(cut("a\0https://bob:hun"), "a\0https://bob:***");
    assert_eq!(cut("a\0https://host:80"), "a\0https://host:80");
    assert_eq!(cut("a\0ghp_abc\0b"), "a\0ghp_abc\0b");
}

#[test]
fn words_and_texts_that_were_added_are_masked() {
    let words = check_words(&["badge_number".to_string()]).unwrap();
    let rules = Rules { words, texts: vec![b"acme".to_vec()], ..Rules::default() };
    let mut masker = Privacy::new(rules).masker();
    let mut bytes = b"x\0--badge-number\x004711\0/srv/acme/y\0".to_vec();
    masker.mask_vec(&mut bytes, Form::Arguments, false);
    assert_eq!(bytes, b"x\0--badge-number\0***\0/srv/***/y\0");
    for wrong in ["", "a b", "-x", &"x".repeat(65)] {
        assert!(check_words(&[wrong.to_string()]).is_err(), "{wrong}");
    }
}

#[test]
fn rules_change_for_those_that_mask_already() {
    let privacy = Privacy::new(Rules::default());
    let mut masker = privacy.masker();
    assert!(masker.mask(b"token=x", Form::Text, false).is_some());
    privacy.set_rules(Rules { mask: false, ..Rules::default() });
    assert!(masker.mask(b"token=x", Form::Text, false).is_none());
    let facts = privacy.facts();
    assert_eq!((facts.mask, facts.masked.total()), (MaskState::Partly, 1));
    assert_eq!(facts.masked.by_kind["token"], 1);
}

#[test]
fn bytes_that_are_no_text_stay_as_they_are() {
    let mut bytes = b"\xff\xfe=\x01\0--pass\xe9word=x\0password=\xff\xff\0".to_vec();
    masker().mask_vec(&mut bytes, Form::Arguments, false);
    assert_eq!(bytes, b"\xff\xfe=\x01\0--pass\xe9word=x\0password=***\0");
}

//! Secrets are masked before anything is kept: in the arguments of programs, in paths
//! and in every other string that comes from a process.
//!
//! A [`Masker`] stands between the decoder and the window, and wherever else strings of
//! processes come in. What it finds becomes [`MARKER`], the attachment carries a flag,
//! and the find is counted by kind; the counts are in the header of every file.
//!
//! Invariant: no input or output. A string without a secret is neither copied nor
//! allocated, and whatever is masked stays as it is when it is masked again.

mod arguments;
mod event;
pub use event::is_payload;
mod facts;
mod names;
mod programs;
mod shapes;
mod spans;
mod text;

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use memchr::{memchr3, memmem};

pub use facts::{MaskState, MaskedCounts, PayloadFacts, PrivacyFacts, SCRUBS_MAX, ScrubFacts};
pub use spans::MARKER;
use spans::{Piece, Spans};

use crate::event::capture::DataKept;

/// What the rules are called that this program masks by: it goes up when they find more.
pub const RULES_VERSION: u32 = 1;

/// Names an operator may add.
pub const WORDS_MAX: usize = 256;

/// The longest of them, bytes.
pub const WORD_BYTES_MAX: usize = 64;

/// How often a string is looked at again after something in it was masked: what is left
/// can look like another secret. Of one that never ends to do so nothing is kept.
const ROUNDS_MAX: usize = 8;

/// Kinds of secrets, in the order of their names' places in the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Secret {
    /// Behind a word such as `password`.
    Password,
    /// Behind a word such as `token`.
    Token,
    /// Behind a word such as `secret`.
    Secret,
    /// Behind words such as `api_key`.
    Key,
    /// A cookie or the id of a session.
    Session,
    /// Credentials of a header.
    Authorization,
    /// The signature of a URL.
    Signature,
    /// Behind a word such as `credentials`.
    Credential,
    /// The password in a URL, or a token in the place of its user.
    UrlPassword,
    /// A private key in letters.
    PrivateKey,
    /// A signed token of three parts.
    Jwt,
    /// An access key of Amazon.
    Aws,
    /// A token of GitHub.
    Github,
    /// A token of GitLab.
    Gitlab,
    /// A token of Slack.
    Slack,
    /// A key of Stripe.
    Stripe,
    /// A key of Google.
    Google,
    /// A token of npm.
    Npm,
    /// A token of PyPI.
    Pypi,
    /// A key of SendGrid.
    Sendgrid,
    /// A key of Twilio.
    Twilio,
    /// A client secret of Azure.
    Azure,
    /// A token of Vault.
    Vault,
    /// A key of age.
    Age,
    /// A token of DigitalOcean.
    Digitalocean,
    /// A key of Heroku.
    Heroku,
    /// The address of a webhook.
    Webhook,
    /// A token of somebody else.
    OtherToken,
    /// Behind a name the operator added.
    Word,
    /// A text somebody wanted out of a file.
    Text,
    /// The environment of a process in data of another.
    Environment,
}

impl Secret {
    /// Every kind.
    pub const ALL: [Secret; 31] = [
        Secret::Password,
        Secret::Token,
        Secret::Secret,
        Secret::Key,
        Secret::Session,
        Secret::Authorization,
        Secret::Signature,
        Secret::Credential,
        Secret::UrlPassword,
        Secret::PrivateKey,
        Secret::Jwt,
        Secret::Aws,
        Secret::Github,
        Secret::Gitlab,
        Secret::Slack,
        Secret::Stripe,
        Secret::Google,
        Secret::Npm,
        Secret::Pypi,
        Secret::Sendgrid,
        Secret::Twilio,
        Secret::Azure,
        Secret::Vault,
        Secret::Age,
        Secret::Digitalocean,
        Secret::Heroku,
        Secret::Webhook,
        Secret::OtherToken,
        Secret::Word,
        Secret::Text,
        Secret::Environment,
    ];

    /// Its name in files, in `info` and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Secret::Password => "password",
            Secret::Token => "token",
            Secret::Secret => "secret",
            Secret::Key => "key",
            Secret::Session => "session",
            Secret::Authorization => "authorization",
            Secret::Signature => "signature",
            Secret::Credential => "credential",
            Secret::UrlPassword => "url_password",
            Secret::PrivateKey => "private_key",
            Secret::Jwt => "jwt",
            Secret::Aws => "aws",
            Secret::Github => "github",
            Secret::Gitlab => "gitlab",
            Secret::Slack => "slack",
            Secret::Stripe => "stripe",
            Secret::Google => "google",
            Secret::Npm => "npm",
            Secret::Pypi => "pypi",
            Secret::Sendgrid => "sendgrid",
            Secret::Twilio => "twilio",
            Secret::Azure => "azure",
            Secret::Vault => "vault",
            Secret::Age => "age",
            Secret::Digitalocean => "digitalocean",
            Secret::Heroku => "heroku",
            Secret::Webhook => "webhook",
            Secret::OtherToken => "other_token",
            Secret::Word => "word",
            Secret::Text => "text",
            Secret::Environment => "environment",
        }
    }
}

/// What is masked beside what is always masked, and whether anything is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether secrets are masked at all.
    pub mask: bool,
    /// Further names behind which a secret stands, such as `badge_number`.
    pub words: Vec<Vec<u8>>,
    /// Texts that are masked wherever they stand.
    pub texts: Vec<Vec<u8>>,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { mask: true, words: Vec::new(), texts: Vec::new() }
    }
}

/// Names of secrets as an operator writes them, checked; or what is wrong with one.
pub fn check_words(words: &[String]) -> Result<Vec<Vec<u8>>, String> {
    if words.len() > WORDS_MAX {
        return Err(format!("{} words, at most {WORDS_MAX}", words.len()));
    }
    let check = |word: &String| {
        let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = word.as_bytes();
        let is_name = bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(b));
        if is_name && ends(bytes.first()) && ends(bytes.last()) && bytes.len() <= WORD_BYTES_MAX {
            return Ok(bytes.to_vec());
        }
        Err(format!(
            "`{word}` is no name of a secret: write letters, digits, `_`, `-` and `.`, at most \
             {WORD_BYTES_MAX}"
        ))
    };
    words.iter().map(check).collect()
}

/// The rules and the counts of one recording, shared by everything that masks for it.
#[derive(Debug)]
pub struct Privacy {
    rules: Mutex<Arc<Rules>>,
    /// Goes up when the rules change.
    generation: AtomicU64,
    masked: [AtomicU64; Secret::ALL.len()],
    /// How often masking was on, and off, when rules were set.
    states: [AtomicU64; 2],
    payload: PayloadFacts,
}

impl Privacy {
    /// These rules, and nothing masked yet.
    pub fn new(rules: Rules) -> Arc<Privacy> {
        Privacy::recording(rules, DataKept::default())
    }

    /// The same for a recording that keeps so much of the data of programs.
    pub fn recording(rules: Rules, kept: DataKept) -> Arc<Privacy> {
        let DataKept { file_bytes, network_bytes } = kept;
        let privacy = Privacy {
            payload: PayloadFacts { file_bytes, network_bytes },
            states: [u64::from(!rules.mask), u64::from(rules.mask)].map(AtomicU64::new),
            rules: Mutex::new(Arc::new(rules)),
            generation: AtomicU64::new(0),
            masked: std::array::from_fn(|_| AtomicU64::new(0)),
        };
        Arc::new(privacy)
    }

    /// Other rules, from the next event of every masker on.
    pub fn set_rules(&self, rules: Rules) {
        let [off, on] = &self.states;
        (if rules.mask { on } else { off }).fetch_add(1, Ordering::Relaxed);
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The rules in force.
    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Something that masks by these rules.
    pub fn masker(self: &Arc<Privacy>) -> Masker {
        Masker {
            rules: self.rules(),
            generation: self.generation.load(Ordering::Acquire),
            privacy: Arc::clone(self),
            spans: Spans::default(),
            bytes: Vec::new(),
            round: Vec::new(),
            kept: Vec::new(),
        }
    }

    fn count(&self, secret: Secret) {
        if let Some(count) = self.masked.get(secret as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was masked so far, by kind; kinds of which nothing was are left out.
    pub fn masked(&self) -> MaskedCounts {
        let counts = Secret::ALL.iter().zip(&self.masked);
        let counts = counts.map(|(secret, count)| (*secret, count.load(Ordering::Relaxed)));
        MaskedCounts::of(counts)
    }

    /// What a file says of it.
    pub fn facts(&self) -> PrivacyFacts {
        let rules = self.rules();
        let [off, on] = self.states.each_ref().map(|state| state.load(Ordering::Relaxed) > 0);
        let mask = match (on, off) {
            (true, true) => MaskState::Partly,
            (false, true) => MaskState::Off,
            _ => MaskState::On,
        };
        PrivacyFacts {
            mask,
            rules: RULES_VERSION,
            words: rules.words.len() as u64,
            masked: self.masked(),
            payload: self.payload,
            ..PrivacyFacts::default()
        }
    }
}

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One string: a path, a name, a text.
    Text,
    /// Strings one after the other, each ended by a NUL.
    Arguments,
}

/// Masks strings. One for each thread: it has buffers of its own.
#[derive(Debug)]
pub struct Masker {
    privacy: Arc<Privacy>,
    rules: Arc<Rules>,
    generation: u64,
    spans: Spans,
    /// The masked string.
    bytes: Vec<u8>,
    /// The one of the round before.
    round: Vec<u8>,
    /// The masked attachments of an event.
    kept: Vec<u8>,
}

impl Masker {
    /// Follows the rules when they were changed. Answers whether anything is masked.
    fn is_on(&mut self) -> bool {
        let generation = self.privacy.generation.load(Ordering::Acquire);
        if generation != self.generation {
            (self.rules, self.generation) = (self.privacy.rules(), generation);
        }
        self.rules.mask
    }

    /// Which rules it masks by: a number that is another one after they were changed.
    pub fn rules(&mut self) -> u64 {
        self.is_on();
        self.generation
    }

    /// The string without its secrets, or `None` where it has none. `is_cut`: there was
    /// more of it, so a secret may have lost its end.
    pub fn mask(&mut self, bytes: &[u8], form: Form, is_cut: bool) -> Option<&[u8]> {
        // What was cut may end within a secret that is too short for a quick look.
        if !self.is_on() || !(is_cut || self.may_have_secret(bytes, form)) {
            return None;
        }
        if !self.find(bytes, form, is_cut) {
            return None;
        }
        self.bytes.clear();
        self.spans.write(bytes, &mut self.bytes);
        for rounds in 1.. {
            let round = std::mem::replace(&mut self.bytes, std::mem::take(&mut self.round));
            let found = self.find(&round, form, is_cut);
            self.round = round;
            if !found {
                std::mem::swap(&mut self.bytes, &mut self.round);
                break;
            }
            if rounds >= ROUNDS_MAX {
                // Every round makes a whole string of the list one that has no secret.
                self.spans.widen(&self.round);
            }
            self.bytes.clear();
            self.spans.write(&self.round, &mut self.bytes);
        }
        Some(&self.bytes)
    }

    /// The same for a string of ours, such as the words of an alert.
    pub fn mask_string(&mut self, text: &mut String) {
        if let Some(masked) = self.mask(text.as_bytes(), Form::Text, false) {
            *text = String::from_utf8_lossy(masked).into_owned();
        }
    }

    /// The same in place.
    pub fn mask_vec(&mut self, bytes: &mut Vec<u8>, form: Form, is_cut: bool) {
        if let Some(masked) = self.mask(bytes, form, is_cut) {
            let masked = masked.to_vec();
            *bytes = masked;
        }
    }

    /// A quick look: whatever is no secret to this is none. Most strings are paths, which
    /// have neither an `=` nor a `:` nor a long run of letters and digits.
    fn may_have_secret(&self, bytes: &[u8], form: Form) -> bool {
        form == Form::Arguments
            || memchr3(b'=', b':', b'%', bytes).is_some()
            || shapes::has_long_run(bytes)
            || !self.rules.texts.is_empty()
    }

    /// Finds all secrets and counts them. Answers whether there are any.
    fn find(&mut self, bytes: &[u8], form: Form, is_cut: bool) -> bool {
        let Masker { rules, spans, privacy, .. } = self;
        spans.clear();
        let piece = Piece::whole(bytes, is_cut);
        match form {
            Form::Text => text::find(&piece, &rules.words, spans),
            Form::Arguments => arguments::find(&piece, &rules.words, spans),
        }
        for wanted in rules.texts.iter().filter(|text| !text.is_empty()) {
            for at in memmem::find_iter(bytes, wanted) {
                spans.add(&piece, at..at + wanted.len(), Secret::Text);
            }
        }
        if spans.is_empty() {
            return false;
        }
        spans.settle(|secret| privacy.count(secret));
        true
    }
}

#[cfg(test)]
mod tests;

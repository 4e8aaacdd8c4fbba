// SPDX-License-Identifier: Apache-2.0

//! Who may ask: names and passwords, as HTTP's Basic scheme sends them.
//!
//! To verify a password with bcrypt takes a good part of a second, of the one thread there is. So the last credentials of
//! each user that were right are remembered, as a digest under a key of this process, and known again in microseconds.
//! All others share a budget of time; when it is spent they are told to come again. Somebody who guesses can keep new
//! clients out, but not delay those who have been known.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ring::{
    error::Unspecified,
    hmac::{self, HMAC_SHA256, Tag},
    rand::SystemRandom,
};

/// The time that may be spent on verifying at once.
const BURST: Duration = Duration::from_secs(1);

/// The part of all time that may be spent on verifying in the long run.
const SHARE: f64 = 0.25;

/// Names and the bcrypt hashes of their passwords.
pub(crate) type Users = Vec<(String, String)>;

/// Whether a request is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Welcome,
    /// No credentials, or wrong ones.
    Unknown,
    /// Nobody had the time to look; try again after so many seconds.
    Busy {
        retry_after: u64,
    },
}

/// What knows the users.
#[derive(Debug)]
pub(crate) struct Auth {
    users: Vec<User>,
    /// What the password of somebody unknown is compared with, so that it takes as long as that of a user.
    decoy: String,
    key: hmac::Key,
    budget: Budget,
}

#[derive(Debug)]
struct User {
    name: String,
    hash: String,
    /// The digest of the credentials that were right last. One: a bounded memory that guessing cannot flush.
    verified: Option<Tag>,
}

impl Auth {
    /// `None` without users: then everybody may ask.
    pub(crate) fn new(users: Users) -> Result<Option<Self>, Unspecified> {
        let costliest = users.iter().max_by_key(|(_, hash)| cost(hash));
        let Some(decoy) = costliest.map(|(_, hash)| hash.clone()) else { return Ok(None) };
        let key = hmac::Key::generate(HMAC_SHA256, &SystemRandom::new())?;
        let users = users.into_iter().map(|(name, hash)| User { name, hash, verified: None }).collect();
        Ok(Some(Self { users, decoy, key, budget: Budget::new(Instant::now()) }))
    }

    /// Judges the header `Authorization`.
    pub(crate) fn judge(&mut self, authorization: Option<&str>) -> Verdict {
        let Some(credentials) = authorization.and_then(credentials) else { return Verdict::Unknown };
        let Some(colon) = credentials.iter().position(|&byte| byte == b':') else { return Verdict::Unknown };
        let (name, password) = (&credentials[..colon], &credentials[colon + 1..]);

        let user = self.users.iter_mut().find(|user| user.name.as_bytes() == name);
        let verified = user.as_ref().and_then(|user| user.verified.as_ref());
        if verified.is_some_and(|tag| hmac::verify(&self.key, &credentials, tag.as_ref()).is_ok()) {
            return Verdict::Welcome;
        }
        let start = Instant::now();
        if let Some(wait) = self.budget.wait(start) {
            return Verdict::Busy { retry_after: wait.as_secs() + 1 };
        }
        let hash = user.as_ref().map_or(&self.decoy, |user| &user.hash);
        let is_right = bcrypt::verify(password, hash).unwrap_or(false);
        self.budget.spend(start.elapsed());
        match user {
            Some(user) if is_right => {
                user.verified = Some(hmac::sign(&self.key, &credentials));
                Verdict::Welcome
            }
            _ => Verdict::Unknown,
        }
    }
}

/// The cost of a hash, the number of rounds as a power of two; `None` if it is not one of bcrypt.
pub(crate) fn cost(hash: &str) -> Option<u32> {
    Some(hash.parse::<bcrypt::HashParts>().ok()?.get_cost())
}

/// Name, colon and password.
fn credentials(authorization: &str) -> Option<Vec<u8>> {
    let (scheme, token) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    BASE64_STANDARD.decode(token.trim()).ok()
}

/// Time to spend, which comes back slowly.
#[derive(Debug)]
struct Budget {
    /// Seconds left when it was last looked at; less than none after something that took long.
    seconds: f64,
    looked_at: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { seconds: BURST.as_secs_f64(), looked_at: now }
    }

    /// How long to wait before anything may be spent; `None` if something may now.
    fn wait(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.looked_at);
        self.looked_at = now;
        self.seconds = (self.seconds + passed.as_secs_f64() * SHARE).min(BURST.as_secs_f64());
        (self.seconds <= 0.0).then(|| Duration::from_secs_f64(-self.seconds / SHARE))
    }

    fn spend(&mut self, time: Duration) {
        self.seconds -= time.as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lowest cost there is: tests need not be safe.
    fn hash(password: &str) -> String {
        bcrypt::hash(password, 4).unwrap()
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(credentials))
    }

    fn auth() -> Auth {
        let users = vec![("alice".to_owned(), hash("wonder:land")), ("bob".to_owned(), hash("builder"))];
        Auth::new(users).unwrap().unwrap()
    }

    #[test]
    fn users_are_let_in_and_nobody_else() {
        let mut auth = auth();
        for (authorization, expected) in [
            (basic("alice:wonder:land"), Verdict::Welcome),
            (basic("bob:builder"), Verdict::Welcome),
            (basic("bob:builder").replace("Basic", "bASIC"), Verdict::Welcome),
            (basic("alice:builder"), Verdict::Unknown),
            (basic("alice:"), Verdict::Unknown),
            (basic("alice"), Verdict::Unknown),
            // The decoy is a hash of one of the two.
            (basic("carol:builder"), Verdict::Unknown),
            (basic("carol:wonder:land"), Verdict::Unknown),
            (basic(":"), Verdict::Unknown),
            (basic("alice:wonder:land").replace("Basic", "Bearer"), Verdict::Unknown),
            ("Basic".to_owned(), Verdict::Unknown),
            ("Basic !!!".to_owned(), Verdict::Unknown),
            (String::new(), Verdict::Unknown),
        ] {
            auth.budget = Budget::new(Instant::now());
            assert_eq!(auth.judge(Some(&authorization)), expected, "{authorization}");
        }
        assert_eq!(auth.judge(None), Verdict::Unknown);
        assert!(Auth::new(Vec::new()).unwrap().is_none());
    }

    #[test]
    fn who_has_been_known_needs_no_time_and_guesses_do_not_change_that() {
        let mut auth = auth();
        assert_eq!(auth.judge(Some(&basic("alice:wonder:land"))), Verdict::Welcome);

        auth.budget.seconds = -2.0;
        assert_eq!(auth.judge(Some(&basic("alice:wonder:land"))), Verdict::Welcome);
        // Eight seconds and a little less, rounded up.
        for unknown in ["alice:guess", "carol:guess", "bob:builder"] {
            assert_eq!(auth.judge(Some(&basic(unknown))), Verdict::Busy { retry_after: 8 }, "{unknown}");
        }
        // What needs no verifying is answered as ever.
        assert_eq!(auth.judge(Some("Basic !!!")), Verdict::Unknown);

        auth.budget = Budget::new(Instant::now());
        assert_eq!(auth.judge(Some(&basic("alice:guess"))), Verdict::Unknown);
        auth.budget.seconds = -2.0;
        assert_eq!(auth.judge(Some(&basic("alice:wonder:land"))), Verdict::Welcome);
    }

    #[test]
    fn a_budget_comes_back_by_a_quarter_of_the_time_and_is_bounded() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        assert_eq!(budget.wait(start), None);
        budget.spend(Duration::from_secs(2));
        assert_eq!(budget.wait(start), Some(Duration::from_secs(4)));
        assert_eq!(budget.wait(start + Duration::from_secs(2)), Some(Duration::from_secs(2)));
        assert_eq!(budget.wait(start + Duration::from_secs(5)), None);
        assert_eq!(budget.wait(start + Duration::from_secs(500)), None);
        budget.spend(Duration::from_secs(1));
        assert_eq!(budget.wait(start + Duration::from_secs(500)), Some(Duration::ZERO));
    }

    #[test]
    fn costs_are_read_from_hashes() {
        assert_eq!(cost(&hash("x")), Some(4));
        assert_eq!(cost("$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"), Some(10));
        for none in ["", "plain", "$1$abc$def", "$2y$10$short"] {
            assert_eq!(cost(none), None, "{none}");
        }
    }
}

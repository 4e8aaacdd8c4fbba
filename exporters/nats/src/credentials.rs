// SPDX-License-Identifier: Apache-2.0

//! Who this side is: a user with a password, a token, or a key that signs what the server asks.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Map, Value};

/// How this side says who it is. `Debug` and `Display` show nothing that is secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    User {
        user: String,
        password: String,
    },
    Token(String),
    /// A file with a JWT and the seed of its key, as `nsc` writes it.
    Credentials(PathBuf),
    /// A file with the seed of a key.
    NKey(PathBuf),
}

/// Why there is nothing to log in with.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub(crate) struct Unusable {
    path: PathBuf,
    problem: String,
}

impl Login {
    /// Adds what a server wants to see to `CONNECT`. Files are read now, since they may have been renewed.
    ///
    /// # Errors
    /// If a file cannot be read, or has not what is expected.
    pub(crate) fn add_to(&self, connect: &mut Map<String, Value>, nonce: &str) -> Result<(), Unusable> {
        let mut add = |name: &str, value: String| connect.insert(name.into(), value.into());
        match self {
            Self::User { user, password } => {
                add("user", user.clone());
                add("pass", password.clone());
            }
            Self::Token(token) => {
                add("auth_token", token.clone());
            }
            Self::Credentials(path) => {
                let unusable = |problem: &str| Unusable { path: path.clone(), problem: problem.into() };
                let text = read(path)?;
                let jwt = block(&text, "NATS USER JWT").ok_or_else(|| unusable("expected a block NATS USER JWT"))?;
                let seed = block(&text, "USER NKEY SEED").ok_or_else(|| unusable("expected a block USER NKEY SEED"))?;
                let key = Key::from_seed(seed).ok_or_else(|| unusable("expected the seed of a user, SU…"))?;
                add("jwt", jwt.into());
                add("sig", key.sign(nonce));
            }
            Self::NKey(path) => {
                let text = read(path)?;
                let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
                let key = seed.and_then(Key::from_seed).ok_or_else(|| Unusable {
                    path: path.clone(),
                    problem: "expected a line with the seed of a user, SU…".into(),
                })?;
                add("nkey", key.public());
                add("sig", key.sign(nonce));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { user, .. } => write!(f, "user {user:?}"),
            Self::Token(_) => f.write_str("a token"),
            Self::Credentials(path) | Self::NKey(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({self})")
    }
}

fn read(path: &Path) -> Result<String, Unusable> {
    fs::read_to_string(path).map_err(|error| Unusable { path: path.to_owned(), problem: error.to_string() })
}

/// What stands between `-----BEGIN name-----` and the next line of dashes.
fn block<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let begin = format!("BEGIN {name}---");
    let mut lines = text.lines().skip_while(|line| !line.contains(&begin)).skip(1);
    lines.find(|line| !line.trim().is_empty()).map(str::trim).filter(|line| !line.starts_with("---"))
}

/// A user's key, an NKey: Ed25519, whose seed and public half are written in base 32 with a prefix and a checksum.
struct Key(Ed25519KeyPair);

impl Key {
    /// Written so that it begins with `S`, and `U` for a user.
    const SEED: u8 = 18 << 3;
    const USER: u8 = 20 << 3;

    fn from_seed(text: &str) -> Option<Self> {
        let bytes = BASE32_NOPAD.decode(text.trim().as_bytes()).ok()?;
        let (bytes, checksum) = bytes.split_last_chunk()?;
        // The prefix of a seed has two parts, of 5 and 8 bits.
        let (prefix, seed) = bytes.split_first_chunk()?;
        let is_users = *prefix == [Self::SEED | Self::USER >> 5, Self::USER << 3];
        let is_whole = crc16(bytes) == u16::from_le_bytes(*checksum);
        if is_users && is_whole { Ed25519KeyPair::from_seed_unchecked(seed).ok().map(Self) } else { None }
    }

    fn public(&self) -> String {
        let mut bytes = [&[Self::USER], self.0.public_key().as_ref()].concat();
        bytes.extend(crc16(&bytes).to_le_bytes());
        BASE32_NOPAD.encode(&bytes)
    }

    fn sign(&self, nonce: &str) -> String {
        BASE64URL_NOPAD.encode(self.0.sign(nonce.as_bytes()).as_ref())
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    // Made by the Python package `nkeys` of bytes that count from 0.
    const SEED: &str = "SUAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4H776Y";
    const PUBLIC: &str = "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK";

    fn connect(login: &Login) -> Result<Map<String, Value>, String> {
        let mut connect = Map::new();
        login.add_to(&mut connect, "nonce").map(|()| connect).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_those_others_know() {
        let key = Key::from_seed(SEED).unwrap();
        assert_eq!(key.public(), PUBLIC);
        let signature = BASE64URL_NOPAD.decode(key.sign("nonce").as_bytes()).unwrap();
        UnparsedPublicKey::new(&ED25519, key.0.public_key().as_ref()).verify(b"nonce", &signature).unwrap();
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // One letter is wrong; the key is public, or an account's; it is short, or nothing.
        let wrong = SEED.replacen("ICAM", "ICAN", 1);
        for text in [
            wrong.as_str(),
            PUBLIC,
            "SAAAAAICAMCAKBQHBAEQUCYMBUHA6EARCIJRIFIWC4MBSGQ3DQOR4HYMHI",
            &SEED[..40],
            "",
            "SU!",
        ] {
            assert!(Key::from_seed(text).is_none(), "{text}");
        }
    }

    #[test]
    fn files_are_read_when_they_are_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.creds");
        let (creds, nkey) = (Login::Credentials(path.clone()), Login::NKey(path.clone()));
        let shown = path.display().to_string();
        assert_eq!(connect(&creds).unwrap_err(), format!("{shown}: No such file or directory (os error 2)"));
        let jwt = "-----BEGIN NATS USER JWT-----\neyJ0.a.b\n------END NATS USER JWT------\n";
        let seed = format!("-----BEGIN USER NKEY SEED-----\n{SEED}\n------END USER NKEY SEED------\n");
        for (content, error) in [
            (String::new(), "expected a block NATS USER JWT"),
            (jwt.into(), "expected a block USER NKEY SEED"),
            (format!("{jwt}{}", seed.replace("SUA", "SAA")), "expected the seed of a user, SU…"),
        ] {
            fs::write(&path, content).unwrap();
            assert_eq!(connect(&creds).unwrap_err(), format!("{shown}: {error}"));
        }
        assert_eq!(connect(&nkey).unwrap_err(), format!("{shown}: expected a line with the seed of a user, SU…"));
        fs::write(&path, format!("************\n\n{jwt}\n{seed}")).unwrap();
        let signature = Key::from_seed(SEED).unwrap().sign("nonce");
        let pairs = |pairs: &[(&str, &str)]| -> Map<String, Value> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect()
        };
        assert_eq!(connect(&creds).unwrap(), pairs(&[("jwt", "eyJ0.a.b"), ("sig", &signature)]));
        assert_eq!(connect(&nkey).unwrap(), pairs(&[("nkey", PUBLIC), ("sig", &signature)]));
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let user = Login::User { user: "me".into(), password: "hunter2".into() };
        assert_eq!((user.to_string(), format!("{user:?}")), ("user \"me\"".into(), "Login(user \"me\")".into()));
        assert_eq!(format!("{:?}", Login::Token("hunter2".into())), "Login(a token)");
    }
}

//! `pkey_*` and `dh_compute*`: what the kernel computes with keys.

use crate::session::Session;
use insta::assert_snapshot;
use keyns_sys::KeySerial;
use keyns_sys::key as sys;

const CERTIFICATE: &[u8] = include_bytes!("../../../keyns-sys/tests/data/rsa2048-certificate.der");
const PRIME: &[u8] = include_bytes!("../../../keyns-sys/tests/data/modp1536");

/// SHA-256 of `keyns`, and its signature by the key of the certificate.
const DIGEST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../keyns-sys/tests/data/digest.sha256"
);
const SIGNATURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../keyns-sys/tests/data/rsa2048-signature"
);

fn certificate(session: &Session) -> KeySerial {
    sys::add_key(c"asymmetric", c"server", CERTIFICATE, session.keyring()).unwrap()
}

const KEY: &str = "%asymmetric:server";
const OPTIONS: [&str; 2] = ["enc=pkcs1", "hash=sha256"];

#[test]
fn a_key_says_what_it_can_be_used_for() {
    let session = Session::new();
    certificate(&session);
    assert_snapshot!(session.run(["pkey_query", KEY, "0", "enc=pkcs1", "hash=sha256"]), @r"
    can:               encrypt, verify
    size:              2048 bits
    longest data:      256 bytes
    longest signature: 256 bytes
    longest encrypted: 256 bytes
    longest decrypted: 256 bytes
    [0]
    ");
    let json = session
        .run(["pkey-query", KEY, "enc=pkcs1", "--json"])
        .json();
    assert_eq!(
        (&json["key_bits"], &json["sign"]),
        (&2048.into(), &false.into())
    );
}

#[test]
fn a_signature_is_right_or_rejected() {
    let session = Session::new();
    certificate(&session);
    let verify = |hash: &str, signature: &str| {
        let words = ["pkey_verify", KEY, hash, signature, OPTIONS[0], OPTIONS[1]];
        session.run(words)
    };
    assert_snapshot!(verify(DIGEST, SIGNATURE), @r"
    the signature is that of key %asymmetric:server
    [0]
    ");
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), [7; 32]).unwrap();
    let wrong = verify(other.path().to_str().unwrap(), SIGNATURE);
    assert_eq!(wrong.code, 1, "{wrong}");
    assert!(wrong.stderr().contains("not that of this key"), "{wrong}");
    // As keyctl has it, with a password that can only be 0.
    let mut words = vec!["pkey_verify", KEY, "0", DIGEST, SIGNATURE];
    words.extend(OPTIONS);
    words.push("--json");
    assert_eq!(session.run(words).json()["verified"], true);
}

#[test]
fn what_is_encrypted_goes_to_a_pipe_as_it_is() {
    let session = Session::new();
    certificate(&session);
    let words = ["pkey_encrypt", KEY, "-", "enc=pkcs1"];
    let output = session.run_with(words, b"canary-e6");
    assert_eq!((output.code, output.stdout.len()), (0, 256));
    let json = session
        .run_with(words.iter().chain(&["--json"]), b"canary-e6")
        .json();
    assert_eq!(json["bytes"], 256);
    assert_eq!(json["result"].as_str().unwrap().len(), 344);
}

#[test]
fn what_a_key_cannot_do_is_said() {
    let session = Session::new();
    certificate(&session);
    session.add("token", b"x");
    // The certificate has no private key.
    for command in ["pkey_sign", "pkey_decrypt"] {
        let output = session.run([command, KEY, DIGEST, OPTIONS[0], OPTIONS[1]]);
        assert_eq!((output.code, output.stdout()), (1, ""), "{output}");
    }
    assert_snapshot!(session.run(["pkey_query", "%user:token"]), @r"
    error: cannot query key %user:token
      cause: keys of this type, or this key, cannot do it
    [1]
    ");
    assert_snapshot!(session.run(["pkey_query", KEY, "enc"]), @r"
    error: cannot query key %asymmetric:server
      cause: “enc” is no option: they are NAME=VALUE
    [2]
    ");
    for (words, code) in [
        (&["pkey_query", "%asymmetric:none"][..], 4),
        (&["pkey_query", "2147483647"], 4),
        (&["pkey_query", "web/asymmetric:server"], 2),
        (&["pkey_query", KEY, "enc=nonsense"], 1),
        (&["pkey_encrypt", KEY], 2),
        (&["pkey_encrypt", KEY, "0"], 2),
        (&["pkey_encrypt", KEY, "/nonexistent"], 1),
        (&["pkey_verify", KEY, DIGEST], 2),
    ] {
        let output = session.run(words);
        assert_eq!((output.code, output.stdout()), (code, ""), "{output}");
    }
}

#[test]
fn diffie_hellman_is_computed_where_the_kernel_can_and_refused_elsewhere() {
    let session = Session::new();
    let ring = session.keyring();
    sys::add_key(c"user", c"private", &[10], ring).unwrap();
    sys::add_key(c"user", c"prime", PRIME, ring).unwrap();
    sys::add_key(c"user", c"base", &[2], ring).unwrap();
    let keys = ["%user:private", "%user:prime", "%user:base"];
    let plain = ["dh_compute"].iter().chain(&keys).chain(&["--json"]);
    let plain = session.run(plain);
    let derived = ["dh_compute_kdf"]
        .iter()
        .chain(&keys)
        .chain(&["48", "sha256"]);
    let derived = session.run(derived);
    let informed = ["dh_compute_kdf_oi"]
        .iter()
        .chain(&keys)
        .chain(&["48", "sha256", "-x"]);
    let informed = session.run_with(informed, b"0badc0de");
    if session.run(["supports", "dh_compute"]).code == 0 {
        assert_eq!(plain.json()["bytes"], 192, "{plain}");
        assert_eq!((derived.stdout.len(), informed.stdout.len()), (48, 48));
        assert_ne!(derived.stdout, informed.stdout);
    } else {
        for output in [&plain, &derived, &informed] {
            assert_eq!((output.code, output.stdout()), (1, ""), "{output}");
            assert!(output.stderr().contains("no Diffie-Hellman"), "{output}");
        }
    }
}

#[test]
fn lengths_and_keys_of_a_derivation_are_checked() {
    let session = Session::new();
    session.add("n", b"x");
    let n = "%user:n";
    for (words, code) in [
        (&["dh_compute", n, n][..], 2),
        (&["dh_compute", n, n, "%user:none"], 4),
        (&["dh_compute", n, n, "web/user:x"], 2),
        (&["dh_compute_kdf", n, n, n, "0", "sha256"], 2),
        (&["dh_compute_kdf", n, n, n, "1025", "sha256"], 2),
        (&["dh_compute_kdf", n, n, n, "-1", "sha256"], 2),
        (&["dh_compute_kdf", n, n, n, "32", ""], 2),
    ] {
        assert_eq!(session.run(words).code, code, "{words:?}");
    }
    let words = ["dh_compute_kdf_oi", n, n, n, "32", "sha256"];
    let output = session.run_with(words, &[b'x'; 65]);
    assert_eq!(output.code, 2, "{output}");
    assert!(output.stderr().contains("65 bytes, at most 64"), "{output}");
}

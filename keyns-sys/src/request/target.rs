//! The key that was asked for.

use crate::key;
use crate::serial::KeySerial;

use super::Undecidable;

/// Type and description of the target: `type;uid;gid;perm;description`.
pub fn describe(target: KeySerial) -> Result<(Vec<u8>, Vec<u8>), Undecidable> {
    let text = key::describe(target)?;
    let mut parts = text.splitn(5, |b| *b == b';');
    match (parts.next(), parts.nth(3)) {
        (Some(type_name), Some(description)) => Ok((type_name.to_vec(), description.to_vec())),
        _ => Err(Undecidable),
    }
}

/// Types only the kernel asks for, and whose answers go to caches of the whole host, and names that
/// begin with a dot, which user space cannot give to keyrings.
pub fn is_reserved(type_name: &[u8], description: &[u8]) -> bool {
    const TYPES: [&[u8]; 4] = [b"cifs.spnego", b"cifs.idmap", b"id_resolver", b"id_legacy"];
    TYPES.contains(&type_name) || type_name.starts_with(b".") || description.starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::is_reserved;

    #[test]
    fn kernel_only_types_and_dotted_names_are_reserved() {
        assert!(is_reserved(b"cifs.spnego", b"x"));
        assert!(is_reserved(b".request_key_auth", b"x"));
        assert!(is_reserved(b"user", b".x"));
        assert!(!is_reserved(b"user", b"cifs.spnego"));
        assert!(!is_reserved(b"cifs.spnego2", b"x.y"));
    }
}

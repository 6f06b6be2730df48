//! Which bus the daemon serves on.

/// Where the door on a bus is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BusAddress {
    /// Nowhere.
    None,
    /// On the system bus.
    System,
    /// At this address.
    At(String),
}

impl std::str::FromStr for BusAddress {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "none" => Ok(Self::None),
            "system" => Ok(Self::System),
            address if address.starts_with("unix:") => Ok(Self::At(address.to_owned())),
            _ => Err("say system, none, or an address that begins with unix:".to_owned()),
        }
    }
}

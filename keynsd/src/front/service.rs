//! `org.varlink.service`, and the errors it defines for all interfaces.

use keyns_interfaces::frame::{Bytes, MAX_REPLY};
use keyns_interfaces::idl;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::context::{Outgoing, Reply};
use super::router::ServiceInfo;

/// Prefix of the methods answered here.
pub(crate) const INTERFACE: &str = idl::SERVICE.0;

/// Errors that are not those of a keyns interface.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "error", content = "parameters")]
pub(crate) enum ServiceError {
    #[serde(rename = "org.varlink.service.InterfaceNotFound")]
    InterfaceNotFound { interface: String },
    #[serde(rename = "org.varlink.service.MethodNotFound")]
    MethodNotFound { method: String },
    #[serde(rename = "org.varlink.service.MethodNotImplemented")]
    MethodNotImplemented { method: String },
    #[serde(rename = "org.varlink.service.InvalidParameter")]
    InvalidParameter { parameter: String },
    #[serde(rename = "org.varlink.service.ExpectedMore")]
    ExpectedMore {},
}

impl ServiceError {
    /// For a method that is not registered.
    pub(crate) fn unknown(method: &str) -> Self {
        let (interface, name) = method.rsplit_once('.').unwrap_or(("", method));
        match idl::all().find(|(known, _)| *known == interface) {
            Some((_, text)) if idl::methods(text).any(|known| known == name) => {
                Self::MethodNotImplemented {
                    method: method.to_owned(),
                }
            }
            Some(_) => Self::MethodNotFound {
                method: method.to_owned(),
            },
            None => Self::InterfaceNotFound {
                interface: interface.to_owned(),
            },
        }
    }
}

#[derive(Serialize)]
struct Info<'a> {
    vendor: &'a str,
    product: &'a str,
    version: &'a str,
    url: &'a str,
    interfaces: Vec<&'a str>,
}

#[derive(Serialize)]
struct Description {
    description: &'static str,
}

/// Answers a method of `org.varlink.service`; anyone may call them.
pub(crate) fn answer(
    info: &ServiceInfo,
    method: &str,
    parameters: Option<&RawValue>,
) -> Result<Outgoing, ServiceError> {
    let reply = match method {
        "org.varlink.service.GetInfo" => Outgoing::encode(
            Reply::from(Info {
                vendor: &info.vendor,
                product: &info.product,
                version: &info.version,
                url: &info.url,
                interfaces: idl::all().map(|(name, _)| *name).collect(),
            }),
            false,
        ),
        "org.varlink.service.GetInterfaceDescription" => Outgoing::encode(
            Reply::from(Description {
                description: describe(parameters)?,
            }),
            false,
        ),
        _ => return Err(ServiceError::unknown(method)),
    };
    reply.map_err(|_| ServiceError::MethodNotImplemented {
        method: method.to_owned(),
    })
}

fn describe(parameters: Option<&RawValue>) -> Result<&'static str, ServiceError> {
    #[derive(Deserialize)]
    struct Wanted {
        interface: String,
    }
    let wanted: Option<Wanted> = parameters.and_then(|raw| serde_json::from_str(raw.get()).ok());
    let Some(Wanted { interface }) = wanted else {
        return Err(ServiceError::InvalidParameter {
            parameter: "interface".to_owned(),
        });
    };
    idl::all()
        .find(|(name, _)| *name == interface)
        .map(|(_, text)| *text)
        .ok_or(ServiceError::InterfaceNotFound { interface })
}

/// An error of a keyns interface: `interface` and the kind make its id.
pub(crate) fn refusal(interface: &str, error: &keyns_interfaces::Error) -> Option<Bytes> {
    #[derive(Serialize)]
    struct ErrorFrame<'a> {
        error: String,
        parameters: &'a keyns_interfaces::Error,
    }
    let declared = idl::INTERFACES
        .iter()
        .filter(|(name, _)| *name == interface)
        .any(|(_, text)| idl::errors(text).any(|name| name == error.kind.to_string()));
    if !declared {
        tracing::warn!(interface, kind = %error.kind, "an error the interface does not declare");
    }
    let frame = ErrorFrame {
        error: format!("{interface}.{}", error.kind),
        parameters: error,
    };
    Bytes::encode(&frame, MAX_REPLY)
}

//! Clients of other makers.

use serde::{Deserialize, Serialize};

use crate::server::Server;

#[test]
fn the_varlink_crate_is_served() {
    #[derive(Debug, Serialize)]
    struct Update {
        key: String,
        payload: String,
    }
    #[derive(Debug, Deserialize)]
    struct KeyReply {
        key: Key,
    }
    #[derive(Debug, Deserialize)]
    struct Key {
        serial: i64,
        description: String,
    }
    let server = Server::start();
    let address = format!("unix:{}", server.path().display());
    let connection = varlink::Connection::with_address(&address).unwrap();

    let mut service = varlink::OrgVarlinkServiceClient::new(std::sync::Arc::clone(&connection));
    use varlink::OrgVarlinkServiceInterface;
    let info = service.get_info().unwrap();
    assert_eq!(info.product, "keynsd");
    let description = service.get_interface_description("org.keyns.Keys").unwrap();
    assert!(description.description.unwrap().contains("method Grant("));

    let update = Update {
        key: "a\\\\b".to_owned(),
        payload: "QUFB".to_owned(),
    };
    let mut call = varlink::MethodCall::<_, KeyReply, varlink::Error>::new(
        std::sync::Arc::clone(&connection),
        "org.keyns.Keys.Update",
        update,
    );
    let reply = call.call().unwrap();
    assert_eq!(
        (reply.key.serial, reply.key.description.as_str()),
        (3, "a\\\\b")
    );

    let mut call = varlink::MethodCall::<_, serde_json::Value, varlink::Error>::new(
        connection,
        "org.keyns.Keys.Update",
        serde_json::json!({"key": 1}),
    );
    let error = call.call().unwrap_err();
    assert!(matches!(error.kind(), varlink::ErrorKind::InvalidParameter(name) if name == "key"));
}

#[tokio::test]
async fn zlink_is_served() {
    use zlink::varlink_service::Proxy as _;

    #[derive(Debug, Serialize)]
    struct Call {
        method: &'static str,
        parameters: serde_json::Value,
    }
    #[derive(Debug, Deserialize)]
    struct Failed {
        error: String,
    }
    let server = Server::start();
    let mut connection = zlink::tokio::unix::connect(server.path()).await.unwrap();
    let info = connection.get_info().await.unwrap().unwrap();
    assert_eq!(info.product, "keynsd");
    let call = zlink::Call::new(Call {
        method: "org.keyns.Keys.Read",
        parameters: serde_json::json!({"key": "3"}),
    });
    let (reply, _) = connection
        .call_method::<_, serde_json::Value, Failed>(&call, vec![])
        .await
        .unwrap();
    let parameters = reply.unwrap().into_parameters().unwrap();
    assert_eq!(parameters["payload"], "BwcH");
    let call = zlink::Call::new(Call {
        method: "org.keyns.Keys.Grant",
        parameters: serde_json::json!({"key": "3", "container": "web", "rights": ["read"]}),
    });
    let (reply, _) = connection
        .call_method::<_, serde_json::Value, Failed>(&call, vec![])
        .await
        .unwrap();
    assert_eq!(reply.unwrap_err().error, "org.keyns.Keys.ImpliedRights");
}

/// A service of the crate `varlink`, with an error and a stream.
struct Foreign;

impl varlink::Interface for Foreign {
    fn get_description(&self) -> &'static str {
        include_str!("../../../interfaces/org.keyns.Manager.varlink")
    }

    fn get_name(&self) -> &'static str {
        "org.keyns.Manager"
    }

    fn call_upgraded(
        &self,
        _: &mut varlink::Call<'_>,
        _: &mut dyn std::io::BufRead,
    ) -> varlink::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn call(&self, call: &mut varlink::Call<'_>) -> varlink::Result<()> {
        use varlink::CallTrait as _;

        let method = call.request.unwrap().method.clone();
        call.reply_struct(match method.as_ref() {
            "org.keyns.Manager.GetFeatures" => {
                varlink::Reply::parameters(Some(serde_json::json!({"features": [{
                    "name": "foreign", "enforcer": "kernel", "detail": "“as it is”"
                }]})))
            }
            _ => varlink::Reply::error(
                "org.keyns.Manager.NotPermitted",
                Some(serde_json::json!({"message": "not today", "rights": []})),
            ),
        })
    }
}

#[test]
fn a_server_of_the_varlink_crate_is_understood() {
    use std::sync::atomic::{AtomicBool, Ordering};

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let config = varlink::ListenConfig {
        stop_listening: Some(std::sync::Arc::clone(&stop)),
        ..varlink::ListenConfig::default()
    };
    let address = format!("unix:{}", path.display());
    let server = std::thread::spawn(move || {
        let service =
            varlink::VarlinkService::new("test", "foreign", "1", "", vec![Box::new(Foreign)]);
        varlink::listen(service, &address, &config)
    });
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let mut client = loop {
        match keyns_interfaces::blocking::Client::connect(&path) {
            Ok(client) => break client,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let (features, _) = client
        .call(&keyns_interfaces::manager::GetFeatures {}, vec![])
        .unwrap();
    assert_eq!(features.features[0].detail, "“as it is”");
    let refused = client
        .call(&keyns_interfaces::manager::GetStatus {}, vec![])
        .unwrap_err();
    assert!(refused.to_string().contains("not today"), "{refused}");
    drop(client);
    stop.store(true, Ordering::SeqCst);
    // It tells that it was stopped in one way or another.
    drop(server.join().unwrap());
}

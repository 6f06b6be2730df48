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

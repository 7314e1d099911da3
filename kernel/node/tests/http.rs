//! The HTTP door: what is refused, how, and that a refusal changes nothing; and the JSON shapes of API.md.
#![allow(clippy::unwrap_used)]

mod sim;

use reqwest::{Client, Method};
use serde_json::{Value, json};

use kernel_node::{Listen, Server, Token};
use sim::SimDisk;

const TOKEN: &str = "http-test-token-0123";

struct Door {
    http: Client,
    base: String,
}

async fn door() -> Door {
    let node = sim::open(&SimDisk::new(), &kernel_node::Config::new(sim::LINEAGE)).unwrap();
    let listen = Listen { address: Some("127.0.0.1:0".parse().unwrap()), socket: None };
    let server = Server::bind(node, &listen, Token::new(TOKEN).unwrap(), || 1_700_000_000_000).await.unwrap();
    let base = format!("http://{}", server.address().unwrap());
    tokio::spawn(server.serve(std::future::pending()));
    Door { http: Client::builder().no_proxy().build().unwrap(), base }
}

impl Door {
    async fn ask(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.http.request(method, format!("{}{path}", self.base)).bearer_auth(TOKEN).body(body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.ask(Method::POST, path, body.to_string()).await
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, path, "").await
    }

    async fn delete(&self, path: &str) -> (u16, Value) {
        self.ask(Method::DELETE, path, "").await
    }

    async fn collection(&self) {
        let (status, answer) = self.post("/v1/collections", json!({"name": "c", "dimension": 2, "metric": "l2"})).await;
        assert_eq!((status, &answer["sequence"]), (200, &json!(1)), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_graph_by_json() {
    let door = door().await;
    door.collection().await;
    let c = "/v1/collections/c";
    let one = json!({"id": 1, "vector": [0.1, -0.25], "tag": 7, "metadata": "eins"});
    let (status, answer) = door.post(&format!("{c}/records"), one.clone()).await;
    assert_eq!((status, &answer["sequence"], &answer["changed"]), (200, &json!(2), &json!(1)), "{answer}");
    assert_eq!(answer["state_hash"].as_str().unwrap().len(), 64);
    let (status, answer) = door.post(&format!("{c}/records"), one).await;
    assert_eq!((status, &answer["error"]), (409, &json!("conflict")));
    let exact = json!({"records": [{"id": "2", "vector_q16": [6554, -16384]}, {"id": 3, "vector": [5, 5], "metadata_hex": "ff00"}]});
    assert_eq!(door.post(&format!("{c}/records:batch"), exact).await.0, 200);
    let (one, two) = (door.get(&format!("{c}/records/1")).await.1, door.get(&format!("{c}/records/2")).await.1);
    assert_eq!(one["vector_q16"], two["vector_q16"], "floats and exact numbers meet in one place");
    let said = json!({"id": "1", "tag": 7, "vector": [0.100_006_103_515_625, -0.25], "vector_q16": [6554, -16384], "metadata": "eins"});
    assert_eq!(one, said);
    assert_eq!(door.get(&format!("{c}/records/3")).await.1["metadata_hex"], "ff00");

    let (_, found) =
        door.post(&format!("{c}/search"), json!({"vector": [0.1, -0.25], "limit": 2, "with_metadata": true})).await;
    assert_eq!((&found["hits"][0]["id"], &found["hits"][0]["score_q32"]), (&json!("1"), &json!("0")), "{found}");
    assert_eq!((&found["hits"][0]["metadata"], &found["hits"][1]["id"]), (&json!("eins"), &json!("2")), "ties by id");

    let (status, kind) = door.post(&format!("{c}/kinds"), json!({"space": "edge", "name": "cites"})).await;
    assert_eq!((status, &kind["number"]), (200, &json!(256)), "{kind}");
    let nodes =
        json!({"nodes": [{"id": 10, "kind": "document", "record": 1}, {"id": 11, "kind": "concept", "weight": 0.5}]});
    assert_eq!(door.post(&format!("{c}/nodes:batch"), nodes).await.0, 200);
    let edge =
        json!({"id": 20, "kind": "supports", "from": 10, "to": 11, "weight": 0.75, "created_at": 5, "metadata": "why"});
    assert_eq!(door.post(&format!("{c}/edges"), edge).await.0, 200);
    assert_eq!(door.post(&format!("{c}/edges"), json!({"id": 21, "kind": "cites", "from": 11, "to": 10})).await.0, 200);
    let (_, edges) = door.get(&format!("{c}/nodes/10/edges")).await;
    assert_eq!(
        edges[0],
        json!({"id": "20", "kind": "supports", "from": "10", "to": "11", "weight": 0.75, "created_at": 5, "metadata": "why"})
    );
    assert_eq!((&edges[1]["kind"], &edges[1]["created_at"]), (&json!("cites"), &json!(1_700_000_000_000_i64)));
    assert_eq!(door.get(&format!("{c}/nodes/11")).await.1["weight"], 0.5);

    let (status, answer) = door.delete(&format!("{c}/records/1")).await;
    assert_eq!(status, 409, "a node speaks about it: {answer}");
    let (status, answer) = door.delete(&format!("{c}/records/1?links=cascade&mode=soft&deleted_at=9")).await;
    assert_eq!((status, &answer["changed"]), (200, &json!(4)), "record, node and two edges: {answer}");
    assert_eq!(door.get(&format!("{c}/edges/20")).await.0, 404);
    assert_eq!(door.get(c).await.1["trash"], 4);
    let (_, proof) = door.get("/v1/proof/record/c/1").await;
    assert_eq!(proof["present"], false);

    let (status, trashed) = door.delete(c).await;
    assert_eq!(status, 200);
    assert_eq!(trashed["trash_id"].as_str().unwrap().len(), 32);
    assert_eq!(door.get(c).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_told_what_and_what_to_do() {
    let door = door().await;
    door.collection().await;
    let before = door.get("/v1/proof/state").await.1;
    let c = "/v1/collections/c";
    let post = Method::POST;
    let cases: Vec<(Method, String, String, u16)> = vec![
        (post.clone(), format!("{c}/records"), "{".into(), 400),
        (post.clone(), format!("{c}/records"), "[]".into(), 400),
        (post.clone(), format!("{c}/records"), r#"{"id":1,"vector":[1,2],"colour":1}"#.into(), 400),
        (post.clone(), format!("{c}/records"), r#"{"id":1}"#.into(), 400),
        (post.clone(), format!("{c}/records"), r#"{"id":1,"vector":[1,2],"vector_q16":[1,2]}"#.into(), 400),
        (post.clone(), format!("{c}/records"), r#"{"id":-1,"vector":[1,2]}"#.into(), 400),
        (post.clone(), format!("{c}/records"), r#"{"id":"x","vector":[1,2]}"#.into(), 400),
        (post.clone(), format!("{c}/records"), r#"{"id":1,"vector":[1,2],"metadata_hex":"abc"}"#.into(), 400),
        (post.clone(), format!("{c}/records"), r#"{"id":1,"vector":[1]}"#.into(), 422),
        (post.clone(), format!("{c}/records"), r#"{"id":1,"vector":[1,1e39]}"#.into(), 422),
        (post.clone(), format!("{c}/records?existing=maybe"), r#"{"id":1,"vector":[1,2]}"#.into(), 400),
        (post.clone(), format!("{c}/records:batch"), r#"{"records":[]}"#.into(), 422),
        (
            post.clone(),
            format!("{c}/records:batch"),
            r#"{"records":[{"id":1,"vector":[1,2]},{"id":1,"vector":[1,2]}]}"#.into(),
            409,
        ),
        (post.clone(), "/v1/collections/missing/records".into(), r#"{"id":1,"vector":[1,2]}"#.into(), 404),
        (post.clone(), "/v1/collections/no%20name/records".into(), r#"{"id":1,"vector":[1,2]}"#.into(), 422),
        (post.clone(), "/v1/collections".into(), r#"{"name":"c","dimension":2,"metric":"l2"}"#.into(), 409),
        (post.clone(), "/v1/collections".into(), r#"{"name":"d","dimension":0,"metric":"l2"}"#.into(), 422),
        (post.clone(), "/v1/collections".into(), r#"{"name":"d","dimension":2,"metric":"manhattan"}"#.into(), 400),
        (post.clone(), "/v1/collections".into(), r#"{"name":"../d","dimension":2,"metric":"l2"}"#.into(), 422),
        (post.clone(), format!("{c}/nodes"), r#"{"id":1,"kind":"unicorn"}"#.into(), 400),
        (post.clone(), format!("{c}/nodes"), r#"{"id":1,"kind":"concept","record":5}"#.into(), 404),
        (post.clone(), format!("{c}/edges"), r#"{"id":1,"kind":"supports","from":1,"to":2}"#.into(), 404),
        (post.clone(), format!("{c}/search"), r#"{"vector":[1,2],"limit":1000000}"#.into(), 422),
        (post.clone(), format!("{c}/search"), r#"{"vector":[1,2,3]}"#.into(), 422),
        (post.clone(), format!("{c}/kinds"), r#"{"space":"edge","name":"supports"}"#.into(), 409),
        (post.clone(), format!("{c}/kinds"), r#"{"space":"edge","name":"x","number":9}"#.into(), 422),
        (post.clone(), "/v1/commands".into(), "not a command".into(), 400),
        (post.clone(), "/v1/commands".into(), String::new(), 400),
        (post.clone(), "/v1/cursors".into(), r#"{"lineage":"00","durable_seq":0,"folded_seq":0}"#.into(), 400),
        (Method::DELETE, format!("{c}/records/1"), String::new(), 404),
        (Method::DELETE, format!("{c}/records/1?mode=gone"), String::new(), 400),
        (Method::GET, format!("{c}/records/zzz"), String::new(), 422),
        (Method::GET, "/v1/wal".into(), String::new(), 400),
        (Method::GET, "/v1/wal?after=x".into(), String::new(), 400),
        (Method::GET, "/v1/wal?after=99".into(), String::new(), 409),
        (Method::GET, "/v1/snapshots/77".into(), String::new(), 410),
        (Method::GET, "/v1/snapshots/latest".into(), String::new(), 400),
        (Method::GET, format!("{c}/records/%ff"), String::new(), 400),
        (Method::GET, "/v1/proof/unicorn/c/1".into(), String::new(), 400),
        (Method::GET, "/v2/anything".into(), String::new(), 404),
        (Method::PUT, "/v1/collections".into(), String::new(), 405),
    ];
    for (method, path, body, expected) in cases {
        let (status, answer) = door.ask(method.clone(), &path, body.clone()).await;
        assert_eq!(status, expected, "{method} {path} {body}: {answer}");
        for field in ["error", "what", "next"] {
            assert!(answer[field].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}: {answer}");
        }
    }
    assert_eq!(door.get("/v1/proof/state").await.1, before, "no refusal changed anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_health_is_open() {
    let door = door().await;
    let health = door.http.get(format!("{}/v1/health", door.base)).send().await.unwrap();
    assert_eq!(health.json::<Value>().await.unwrap()["status"], "ok");
    for path in ["/v1/proof/state", "/v1/snapshots", "/v1/wal?after=0", "/v1/collections", "/v1/cursors", "/v1/nothing"]
    {
        let url = format!("{}{path}", door.base);
        for header in [None, Some("Bearer wrong"), Some("Basic aaa"), Some(TOKEN)] {
            let mut request = door.http.get(&url);
            if let Some(value) = header {
                request = request.header("Authorization", value);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 401, "{path} {header:?}");
            assert_eq!(response.json::<Value>().await.unwrap()["error"], "unauthorized");
        }
    }
    let huge = vec![b' '; 129 << 20];
    let sent = door.http.post(format!("{}/v1/commands", door.base)).bearer_auth(TOKEN).body(huge).send().await;
    // The server may answer, or close before all of it was sent; it never reads it all.
    if let Ok(response) = sent {
        assert_eq!(response.status(), 413);
        assert_eq!(response.json::<Value>().await.unwrap()["error"], "bad_request");
    }
    assert_eq!(door.get("/v1/proof/state").await.0, 200);
}

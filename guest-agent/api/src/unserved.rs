//! What Docker's API has and this engine answers without doing: swarm, plugins, and what is not served.

use http::StatusCode;
use serde_json::json;

use crate::body::{self, Answer};
use crate::error::ApiError;

/// Paths outside the engine's own nouns.
pub(crate) fn route(method: &str, path: &[&str]) -> Result<Answer, ApiError> {
    match (method, path) {
        ("GET" | "POST" | "DELETE", ["nodes" | "services" | "tasks" | "secrets" | "configs", ..])
        | ("GET", ["swarm"] | ["swarm", "unlockkey"])
        | ("POST", ["swarm", "update" | "unlock"]) => Err(ApiError::not_a_swarm_manager()),
        ("POST", ["swarm", "leave"]) => {
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "This node is not part of a swarm"))
        }
        ("POST", ["swarm", "init" | "join"]) => {
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "swarm mode is not supported by this engine"))
        }
        ("GET", ["plugins"]) => Ok(body::json(StatusCode::OK, &json!([]))),
        ("GET", ["plugins", name @ .., "json"]) | ("DELETE", ["plugins", name @ ..]) if !name.is_empty() => {
            Err(ApiError::new(StatusCode::NOT_FOUND, format!("plugin \"{}\" not found", name.join("/"))))
        }
        (_, ["plugins", ..]) => Err(ApiError::not_implemented("installing plugins")),
        // There is no build cache, so pruning it succeeds and frees nothing: `docker system prune` asks.
        ("POST", ["build", "prune"]) => {
            Ok(body::json(StatusCode::OK, &json!({"CachesDeleted": null, "SpaceReclaimed": 0})))
        }
        ("POST", ["build"] | ["session"] | ["grpc"]) => Err(ApiError::not_implemented("building images")),
        ("POST", ["build", "cancel"]) => Err(ApiError::not_implemented("building images")),
        _ => Err(ApiError::page_not_found()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(method: &str, path: &[&str]) -> (u16, String) {
        let error = route(method, path).map(drop).unwrap_err();
        (error.status.as_u16(), error.message)
    }

    #[test]
    fn swarm_is_refused_as_an_engine_outside_a_swarm_refuses_it() {
        for path in [&["services"][..], &["nodes", "x"], &["secrets", "create"], &["swarm"]] {
            let (status, message) = refusal("GET", path);
            assert_eq!(status, 503);
            assert!(message.starts_with("This node is not a swarm manager."), "{message}");
        }
    }

    #[test]
    fn unknown_paths_are_not_found() {
        assert_eq!(refusal("GET", &["nonsense"]), (404, "page not found".into()));
        assert_eq!(refusal("PUT", &["services"]), (404, "page not found".into()));
        assert_eq!(refusal("GET", &[""]), (404, "page not found".into()));
    }

    #[test]
    fn what_is_in_the_api_but_not_here_says_so() {
        assert_eq!(
            refusal("POST", &["build"]),
            (501, "building images is not supported by this engine".into())
        );
    }
}

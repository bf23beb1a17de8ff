//! stub
use crate::body::Answer;
use crate::call::Call;
use crate::stream::hijack::Takeover;
use engine::Engine;
use http::Request;
use hyper::body::Incoming;
pub(crate) async fn answer(_engine: Engine, _json_limit: usize, _request: Request<Incoming>, _takeover: Takeover) -> Answer {
    crate::error::ApiError::page_not_found().answer()
}

//! The whole API in one table: method, path, scope, handler.

use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;

use hyper::{Method, StatusCode};

use super::auth::Scope;
use super::context::{Context, Reply};
use super::handlers::{
    agents, asks, beads, container, convoys, dependencies, escalations, events, ledger, mail,
    mayor, mayor_tools, mcp, metrics, molecules, page, reviews, rigs, scheduler, session, stream,
    system, tokens, towns,
};

type Answer = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// A row of the table.
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path; `{name}` is a parameter.
    pub path: &'static str,
    /// The handler's room and name.
    pub name: &'static str,
    /// Whom it is for.
    pub scope: Scope,
    pub(super) handler: fn(Context) -> Answer,
    /// The status of a success; a test holds it against the answers.
    pub(super) success: StatusCode,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({:?})", self.method, self.path, self.scope)
    }
}

macro_rules! routes {
    (@success) => { StatusCode::OK };
    (@success $status:ident) => { StatusCode::$status };
    ($($method:ident $path:literal $scope:ident $room:ident::$handler:ident $(=> $status:ident)?;)+) => {
        /// Every route of the server. A `static`, so that a route has one address.
        pub static ROUTES: &[Route] = &[$(
            Route {
                method: Method::$method,
                path: $path,
                name: concat!(stringify!($room), ".", stringify!($handler)),
                scope: Scope::$scope,
                handler: |context| Box::pin($room::$handler(context)),
                success: routes!(@success $($status)?),
            },
        )+];
    };
}

routes! {
    GET "/health" Public system::health;
    GET "/ready" Admin system::ready;
    GET "/api/openapi.json" Admin system::openapi;
    GET "/metrics" Admin metrics::scrape;
    GET "/" Public page::index;
    GET "/assets/{*path}" Public page::asset;
    POST "/api/session" Public session::log_in => CREATED;
    DELETE "/api/session" Admin session::log_out;
    POST "/api/tokens" Admin tokens::create => CREATED;
    GET "/api/tokens" Admin tokens::list;
    DELETE "/api/tokens/{token}" Admin tokens::revoke;

    GET "/api/towns" Admin towns::list_all;
    POST "/api/users/{user}/towns" Admin towns::create => CREATED;
    GET "/api/users/{user}/towns" Admin towns::list;
    GET "/api/users/{user}/towns/{town}" Admin towns::get;
    DELETE "/api/users/{user}/towns/{town}" Admin towns::delete;
    POST "/api/users/{user}/rigs" Admin rigs::create => CREATED;
    GET "/api/users/{user}/rigs/{rig}" Admin rigs::get;
    DELETE "/api/users/{user}/rigs/{rig}" Admin rigs::delete;
    GET "/api/users/{user}/towns/{town}/rigs" Admin rigs::list;

    GET "/api/towns/{town}/config" Admin towns::config;
    PATCH "/api/towns/{town}/config" Admin towns::patch_config;
    GET "/api/towns/{town}/ws" Admin stream::town;
    GET "/api/towns/{town}/container/health" Admin container::health;
    POST "/api/towns/{town}/container/agents/start" Admin container::start => ACCEPTED;
    POST "/api/towns/{town}/container/agents/{agent}/stop" Admin container::stop;
    POST "/api/towns/{town}/container/agents/{agent}/message" Admin container::message;
    GET "/api/towns/{town}/container/agents/{agent}/status" Admin container::status;
    GET "/api/towns/{town}/container/agents/{agent}/stream" Admin stream::agent;
    GET "/api/users/{user}/towns/{town}/events" Admin ledger::of_town;
    GET "/api/towns/{town}/convoys" Admin convoys::list;
    POST "/api/towns/{town}/convoys" Admin convoys::create => CREATED;
    POST "/api/towns/{town}/convoys/bead-closed" Admin convoys::bead_closed;
    GET "/api/towns/{town}/convoys/{convoy}" Admin convoys::get;
    GET "/api/towns/{town}/escalations" Admin escalations::list;
    POST "/api/towns/{town}/escalations/{escalation}/acknowledge" Admin escalations::acknowledge;
    POST "/api/towns/{town}/escalations/{escalation}/close" Admin escalations::close;
    GET "/api/towns/{town}/asks" Admin asks::list;
    POST "/api/towns/{town}/asks/{ask}/reply" Admin asks::reply;
    POST "/api/towns/{town}/mayor/configure" Admin mayor::configure;
    POST "/api/towns/{town}/pause" Admin scheduler::pause_town;
    POST "/api/towns/{town}/resume" Admin scheduler::resume_town;
    POST "/api/towns/{town}/stop-all" Admin scheduler::stop_all;
    GET "/api/towns/{town}/usage" Admin scheduler::usage;
    GET "/api/towns/{town}/reconcile" Admin scheduler::reconcile;
    POST "/api/towns/{town}/rigs/{rig}/pause" Admin scheduler::pause_rig;
    POST "/api/towns/{town}/rigs/{rig}/resume" Admin scheduler::resume_rig;
    POST "/api/towns/{town}/rigs/{rig}/beads/{bead}/retry" Admin scheduler::retry;
    POST "/api/towns/{town}/rigs/{rig}/agents/{agent}/stop" Admin scheduler::stop_agent;
    POST "/api/towns/{town}/mayor/message" Admin mayor::message;
    GET "/api/towns/{town}/mayor/status" Admin mayor::status;
    POST "/api/towns/{town}/mayor/completed" Mayor mayor::completed;
    POST "/api/towns/{town}/mayor/destroy" Admin mayor::destroy;
    POST "/api/mayor/{town}/tools/sling" Mayor mayor_tools::sling => CREATED;
    GET "/api/mayor/{town}/tools/rigs" Mayor mayor_tools::rigs;
    GET "/api/mayor/{town}/tools/rigs/{rig}/beads" Mayor beads::list;
    GET "/api/mayor/{town}/tools/rigs/{rig}/agents" Mayor agents::list;
    POST "/api/mayor/{town}/tools/mail" Mayor mayor_tools::mail;

    POST "/api/towns/{town}/rigs/{rig}/beads" Admin beads::create => CREATED;
    GET "/api/towns/{town}/rigs/{rig}/beads" Rig beads::list;
    GET "/api/towns/{town}/rigs/{rig}/beads/{bead}" Rig beads::get;
    DELETE "/api/towns/{town}/rigs/{rig}/beads/{bead}" Admin beads::delete;
    PATCH "/api/towns/{town}/rigs/{rig}/beads/{bead}/status" Rig beads::set_status;
    POST "/api/towns/{town}/rigs/{rig}/beads/{bead}/close" Rig beads::close;
    GET "/api/towns/{town}/rigs/{rig}/beads/{bead}/dependencies" Rig dependencies::list;
    POST "/api/towns/{town}/rigs/{rig}/beads/{bead}/dependencies" Admin dependencies::add => CREATED;
    DELETE "/api/towns/{town}/rigs/{rig}/beads/{bead}/dependencies/{dependency}" Admin dependencies::remove;
    GET "/api/towns/{town}/rigs/{rig}/events" Rig ledger::of_rig;
    POST "/api/towns/{town}/rigs/{rig}/molecules" Admin molecules::create => CREATED;
    GET "/api/towns/{town}/rigs/{rig}/molecules/{molecule}" Rig molecules::get;
    GET "/api/towns/{town}/rigs/{rig}/agents/{agent}/molecule/current" Agent molecules::current;
    POST "/api/towns/{town}/rigs/{rig}/agents/{agent}/molecule/advance" Agent molecules::advance;
    POST "/api/towns/{town}/rigs/{rig}/sling" Admin beads::sling => CREATED;

    POST "/api/towns/{town}/rigs/{rig}/agents" Admin agents::create => CREATED;
    GET "/api/towns/{town}/rigs/{rig}/agents" Rig agents::list;
    POST "/api/towns/{town}/rigs/{rig}/agents/get-or-create" Admin agents::get_or_create;
    GET "/api/towns/{town}/rigs/{rig}/agents/{agent}" Rig agents::get;
    DELETE "/api/towns/{town}/rigs/{rig}/agents/{agent}" Admin agents::delete;
    POST "/api/towns/{town}/rigs/{rig}/agents/{agent}/hook" Admin agents::hook;
    DELETE "/api/towns/{town}/rigs/{rig}/agents/{agent}/hook" Admin agents::unhook;
    GET "/api/towns/{town}/rigs/{rig}/agents/{agent}/prime" Agent agents::prime;
    POST "/api/towns/{town}/rigs/{rig}/agents/{agent}/done" Agent agents::done;
    POST "/api/towns/{town}/rigs/{rig}/agents/{agent}/completed" Agent agents::completed;
    POST "/api/towns/{town}/rigs/{rig}/agents/{agent}/checkpoint" Agent agents::checkpoint;
    POST "/api/towns/{town}/rigs/{rig}/agents/{agent}/heartbeat" Agent agents::heartbeat;
    GET "/api/towns/{town}/rigs/{rig}/agents/{agent}/mail" Agent mail::check;
    GET "/api/towns/{town}/rigs/{rig}/agents/{agent}/mailbox" Agent mail::mailbox;
    POST "/api/towns/{town}/rigs/{rig}/agents/{agent}/nudge" Admin mail::nudge => CREATED;
    POST "/api/towns/{town}/rigs/{rig}/mail" Rig mail::send => CREATED;
    GET "/api/towns/{town}/rigs/{rig}/agents/{agent}/events" Agent events::list;
    POST "/api/towns/{town}/rigs/{rig}/agent-events" Rig events::append => CREATED;
    POST "/api/towns/{town}/rigs/{rig}/agent-events/batch" Rig events::append_batch => CREATED;
    POST "/api/towns/{town}/rigs/{rig}/review-queue" Rig reviews::submit => CREATED;
    GET "/api/towns/{town}/rigs/{rig}/review-queue" Rig reviews::list;
    GET "/api/towns/{town}/rigs/{rig}/review-queue/{entry}" Rig reviews::get;
    POST "/api/towns/{town}/rigs/{rig}/review-queue/{entry}/complete" Rig reviews::complete;
    POST "/api/towns/{town}/rigs/{rig}/escalations" Rig escalations::raise => CREATED;

    GET "/mcp/{agent}" Agent mcp::serve;
    POST "/mcp/{agent}" Agent mcp::serve;
    DELETE "/mcp/{agent}" Agent mcp::serve;
}

/// Finds routes by path, then by method.
static ROUTER: LazyLock<matchit::Router<Vec<&'static Route>>> = LazyLock::new(|| {
    let mut by_path: Vec<(&'static str, Vec<&'static Route>)> = Vec::new();
    for route in ROUTES {
        match by_path.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, routes)) => routes.push(route),
            None => by_path.push((route.path, vec![route])),
        }
    }
    let mut router = matchit::Router::new();
    for (path, routes) in by_path {
        router
            .insert(path, routes)
            .expect("a test walks the table: its paths don't conflict");
    }
    router
});

/// The parameters of a path, percent-decoded.
pub(super) type Params = Vec<(&'static str, String)>;

pub(super) fn find(method: &Method, path: &str) -> Option<(&'static Route, Params)> {
    let matched = ROUTER.at(path).ok()?;
    // A HEAD is answered like a GET; hyper leaves its body out.
    let wanted = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let route = matched.value.iter().find(|route| route.method == *wanted)?;
    let decode = |text: &str| {
        percent_encoding::percent_decode_str(text)
            .decode_utf8_lossy()
            .into_owned()
    };
    let params = matched
        .params
        .iter()
        .filter_map(|(name, value)| Some((param_name(name)?, decode(value))));
    Some((route, params.collect()))
}

/// Whether a request would find a route; a door for the benchmarks.
#[doc(hidden)]
#[must_use]
pub fn is_found(method: &Method, path: &str) -> bool {
    find(method, path).is_some()
}

/// The names of all parameters.
pub(super) const PARAMS: &[&str] = &[
    "user",
    "town",
    "rig",
    "agent",
    "bead",
    "entry",
    "escalation",
    "ask",
    "token",
    "convoy",
    "dependency",
    "molecule",
    "path",
];

fn param_name(name: &str) -> Option<&'static str> {
    PARAMS.iter().copied().find(|known| *known == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_with_its_parameters() {
        for route in ROUTES {
            let path = route.path.replace("{*path}", "app.js");
            let path = path.replace('{', "%7B").replace('}', "");
            let (found, params) = find(&route.method, &path).expect(route.path);
            assert!(
                std::ptr::eq(found, route),
                "{route:?} is shadowed by {found:?}"
            );
            for (name, value) in params {
                assert!(value == format!("{{{name}") || value == "app.js", "{value}");
            }
        }
        assert!(find(&Method::PUT, "/health").is_none());
        assert!(find(&Method::GET, "/nowhere").is_none());
        assert!(find(&Method::HEAD, "/health").is_some());
    }
}

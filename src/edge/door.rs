//! Which request may bring how much.

use super::Limits;

/// The largest body of a request, bytes.
pub(super) fn body_limit(method: &str, target: &str, is_operator: bool, limits: &Limits) -> usize {
    if is_operator {
        return limits.admin_body_bytes;
    }
    let path = target.split('?').next().unwrap_or_default();
    let mut segments = path.rsplit('/').filter(|segment| !segment.is_empty());
    let is_logs = method == "PATCH"
        && segments.next() == Some("logs")
        && segments.next() == Some("me")
        && segments.next() == Some("workspaceagents");
    if is_logs { limits.logs_body_bytes } else { limits.body_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_agent_logs_may_be_large() {
        let limits = Limits { body_bytes: 1, logs_body_bytes: 2, admin_body_bytes: 3, ..Limits::default() };
        let of = |method, target| body_limit(method, target, false, &limits);
        assert_eq!(of("PATCH", "/api/v2/workspaceagents/me/logs"), 2);
        assert_eq!(of("PATCH", "//api/v2/workspaceagents//me/logs?x=/a"), 2);
        assert_eq!(of("POST", "/api/v2/workspaceagents/me/logs"), 1);
        assert_eq!(of("PATCH", "/api/v2/workspaceagents/me/logs/x"), 1);
        assert_eq!(of("PATCH", "/x?/workspaceagents/me/logs"), 1);
        assert_eq!(body_limit("POST", "/admin/verb", true, &limits), 3);
    }
}

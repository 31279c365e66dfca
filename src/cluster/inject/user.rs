//! The user that the proxy of a pod runs as.

use serde_json::Value;

use super::annotations::Settings;
use super::mesh::Mesh;
use super::names::PROXY_UID;

/// The user by whom metricd-init is to know the proxy, if there is one: what our annotation says,
/// else Linkerd's annotation, else the proxy's container, else the default.
pub fn proxy_uid(
    bare: &Value,
    mesh: Option<Mesh>,
    settings: &Settings,
    warnings: &mut Vec<String>,
) -> Option<u32> {
    let said = settings.proxy_uid.or(settings.redirect.proxy_uid);
    let redirected = settings.redirect.enabled;
    if said.is_some() || (mesh.is_none() && !redirected) {
        return said;
    }
    let of_container = || {
        let context = &mesh?.container(bare)?["securityContext"];
        context["runAsUser"].as_u64()?.try_into().ok()
    };
    let uid = of_container().unwrap_or_else(|| mesh.unwrap_or(Mesh::Linkerd).usual_uid());
    match mesh {
        _ if redirected => Some(uid),
        Some(mesh) if mesh.is_alone(bare) => None,
        Some(mesh) if uid == 0 => {
            warnings.push(format!(
                "{} runs as root, as others may, so its requests are not told from theirs; if \
                 nothing else in the pod runs as root, set {PROXY_UID} to 0",
                mesh.proxy()
            ));
            None
        }
        _ => Some(uid),
    }
}

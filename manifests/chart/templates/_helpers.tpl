{{/*
These templates keep to what `linkerd-metricd install` understands, too: no include, no assignment, no
range over maps, no else of a range, and of Helm's functions those in src/cluster/install/functions.rs.
*/}}

{{/* Labels of every object, and what a component's pods are selected by, as they fit between { }. */}}
{{- define "metricd.labels" -}}
linkerd.io/extension: metricd, app.kubernetes.io/name: metricd, app.kubernetes.io/part-of: linkerd-metricd, app.kubernetes.io/version: {{ .Chart.AppVersion | toJson }}
{{- end -}}

{{- define "metricd.injector" -}}
linkerd.io/extension: metricd, component: metricd-injector
{{- end -}}

{{- define "metricd.gc" -}}
linkerd.io/extension: metricd, component: metricd-gc
{{- end -}}

{{- define "metricd.image" -}}
{{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | toJson }}
{{- end -}}

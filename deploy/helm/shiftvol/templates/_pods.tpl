{{- define "shiftvol.agentEnv" -}}
- {name: SHIFTVOL_CONFIG, value: /etc/shiftvol/plugin.yaml}
{{- if eq .Values.agent.hostName "nodeName" }}
- name: SHIFTVOL_HOST
  valueFrom:
    fieldRef: {fieldPath: spec.nodeName}
{{- end }}
{{ include "shiftvol.transportEnv" . | trim }}
{{- with include "shiftvol.monitoringEnv" . | trim }}
{{ . }}
{{- end }}
{{- with .Values.agent.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
The agent's own socket is asked, or its port for monitors: either says the same. A broker that is away makes an agent unready, and is no
reason to restart it.
*/}}
{{- define "shiftvol.probes" -}}
{{- $probes := .Values.pod.probes.agent.default -}}
{{- $paths := dict "startup" "/healthz" "liveness" "/healthz" "readiness" "/readyz" -}}
{{- $http := .Values.monitoring.enabled -}}
{{- range $kind, $words := dict "startup" (list "health") "liveness" (list "health") "readiness" (list "health" "--ready") }}
{{- $probe := get $probes $kind }}
{{- if $probe.enabled }}
{{ $kind }}Probe:
  {{- if $http }}
  httpGet: {path: {{ get $paths $kind }}, port: metrics}
  {{- else }}
  exec:
    command: {{ concat (list "/usr/bin/shiftvol") $words (list "--timeout" (printf "%d" (max 500 (sub (mul (int ($probe.params.timeoutSeconds | default 10)) 1000) 1000)))) | toJson }}
  {{- end }}
  {{- toYaml $probe.params | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "shiftvol.routerProbes" -}}
{{- $probes := .Values.pod.probes.router.default -}}
{{- range $kind, $path := dict "liveness" "/healthz" "readiness" "/readyz" }}
{{- $probe := get $probes $kind }}
{{- if $probe.enabled }}
{{ $kind }}Probe:
  httpGet: {path: {{ $path }}, port: metrics}
  {{- toYaml $probe.params | nindent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Where monitors ask. */}}
{{- define "shiftvol.monitoringEnv" -}}
{{- if .Values.monitoring.enabled }}
- name: POD_IP
  valueFrom:
    fieldRef: {fieldPath: status.podIP}
- {name: SHIFTVOL_HTTP_LISTEN, value: {{ printf "%s:%d" .Values.monitoring.address (int .Values.monitoring.port) | quote }}}
{{- end }}
{{- end -}}

{{/* What needs nothing of the host. */}}
{{- define "shiftvol.unprivileged" -}}
runAsNonRoot: true
runAsUser: {{ .Values.router.runAsUser }}
runAsGroup: {{ .Values.router.runAsUser }}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
privileged: false
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "shiftvol.unprivilegedMounts" -}}
- {name: etc, mountPath: /etc/shiftvol, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{/* Without clouds.yaml: a router asks no service. */}}
{{- define "shiftvol.routerVolumes" -}}
{{- include "shiftvol.etcVolume" (mustMergeOverwrite (deepCopy (pick . "Values" "Release" "Chart")) (dict "Values" (dict "clouds" (dict "content" nil "existingSecret" "")))) }}
- name: tmp
  emptyDir: {}
{{- end -}}

{{/* Of doctor's checks those that a pod without any rights can answer. */}}
{{- define "shiftvol.testScript" -}}
const { spawnSync } = require('node:child_process');
const { stdout, stderr } = spawnSync('/usr/bin/shiftvol', ['doctor', '--json'], { encoding: 'utf8' });
process.stderr.write(stderr);
const { checks = [], error } = JSON.parse(stdout);
if (error) throw new Error(error.message);
const asked = checks.filter(c => c.check.startsWith('bus.') || c.check === 'host.configuration');
for (const { ok, check, detail, remedy } of asked) console.log(ok, check, detail, remedy ?? '');
process.exitCode = asked.length > 0 && asked.every(c => c.ok !== false) ? 0 : 1;
{{- end -}}

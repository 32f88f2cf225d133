{{- define "shiftvol.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "shiftvol.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "shiftvol.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What a selector looks for; never to be changed. Call with (list $ "agent"). */}}
{{- define "shiftvol.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "shiftvol.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "shiftvol.labels" -}}
{{- $root := index . 0 -}}
{{ include "shiftvol.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "shiftvol.image" -}}
{{- $i := .Values.image -}}
image: {{ .Values.images.tags.shiftvol | default (printf "%s:%s" $i.repository ($i.tag | default .Chart.AppVersion)) | quote }}
imagePullPolicy: {{ .Values.images.pull_policy | default $i.pullPolicy }}
{{- end -}}

{{- define "shiftvol.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "shiftvol.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* oslo.messaging's URL from OpenStack-Helm's parts; empty where no host is named. */}}
{{- define "shiftvol.endpointUrl" -}}
{{- $e := .Values.endpoints.oslo_messaging -}}
{{- $host := $e.host_fqdn_override.default | default $e.hosts.default -}}
{{- if $host -}}
{{- $user := required "endpoints.oslo_messaging.auth.shiftvol.username: needed with endpoints.oslo_messaging.hosts.default" $e.auth.shiftvol.username -}}
{{- $password := required "endpoints.oslo_messaging.auth.shiftvol.password: needed with endpoints.oslo_messaging.hosts.default" $e.auth.shiftvol.password -}}
{{- $login := printf "%s:%s" (include "shiftvol.percent" $user) (include "shiftvol.percent" $password) -}}
{{- $domain := printf "%s.svc.%s" ($e.namespace | default .Release.Namespace) .Values.endpoints.cluster_domain_suffix -}}
{{- $port := int $e.port.amqp.default -}}
{{- $servers := list -}}
{{- if and $e.statefulset.replicas $e.statefulset.name -}}
{{- range $n := until (int $e.statefulset.replicas) -}}
{{- $servers = append $servers (printf "%s@%s-%d.%s.%s:%d" $login $e.statefulset.name $n $host $domain $port) -}}
{{- end -}}
{{- else -}}
{{- $name := ternary $host (printf "%s.%s" $host $domain) (not (empty $e.host_fqdn_override.default)) -}}
{{- $servers = append $servers (printf "%s@%s:%d" $login $name $port) -}}
{{- end -}}
{{- printf "%s://%s/%s" $e.scheme (join "," $servers) (include "shiftvol.percent" (trimPrefix "/" $e.path)) -}}
{{- end -}}
{{- end -}}

{{- define "shiftvol.percent" -}}
{{- . | toString | urlquery | replace "+" "%20" -}}
{{- end -}}

{{- define "shiftvol.transportUrl" -}}
{{- include "shiftvol.endpointUrl" . | default .Values.transport.url -}}
{{- end -}}

{{- define "shiftvol.transportSecret" -}}
{{- .Values.transport.existingSecret.name | default .Values.secrets.oslo_messaging.shiftvol | default (printf "%s-transport" (include "shiftvol.fullname" .)) -}}
{{- end -}}

{{/* Not empty where there is a URL at all. */}}
{{- define "shiftvol.hasBus" -}}
{{- if or (include "shiftvol.transportUrl" .) .Values.transport.listen .Values.transport.existingSecret.name -}}yes{{- end -}}
{{- end -}}

{{- define "shiftvol.hasRouter" -}}
{{- if and .Values.router.enabled .Values.manifests.deployment_router -}}yes{{- end -}}
{{- end -}}

{{/* plugin.yaml: conf, and what other values say of it. */}}
{{- define "shiftvol.plugin" -}}
{{- $conf := deepCopy .Values.conf -}}
{{- $ours := dict "state_dir" .Values.agent.paths.state "run_dir" .Values.agent.paths.run -}}
{{- $_ := set $ours "runtimes" (dict "lxd" (dict "socket" (printf "%s/%s" .Values.agent.runtime.socketDir .Values.agent.runtime.socket))) -}}
{{- if include "shiftvol.hasRouter" . -}}
{{- $_ := set $ours "bus" (dict "source" "router") -}}
{{- end -}}
{{- with .Values.transport.listen -}}
{{- $bus := get $ours "bus" | default dict -}}
{{- $_ := set $bus "listen" . -}}
{{- with include "shiftvol.transportUrl" $ -}}{{- $_ := set $bus "url" . -}}{{- end -}}
{{- with $.Values.transport.managementUrl -}}{{- $_ := set $bus "management_url" . -}}{{- end -}}
{{- $_ := set $ours "bus" $bus -}}
{{- end -}}
{{- mergeOverwrite $ours $conf | toYaml -}}
{{- end -}}

{{- define "shiftvol.etc" -}}
{{- printf "%s-etc" (include "shiftvol.fullname" .) -}}
{{- end -}}

{{/* With several URLs plugin.yaml has passwords in it. */}}
{{- define "shiftvol.etcVolume" -}}
- name: etc
{{- if .Values.transport.listen }}
  secret:
    secretName: {{ include "shiftvol.etc" . }}
    defaultMode: 0440
{{- else }}
  configMap:
    name: {{ include "shiftvol.etc" . }}
    defaultMode: 0444
{{- end }}
{{- if or .Values.clouds.content .Values.clouds.existingSecret }}
- name: clouds
  secret:
    secretName: {{ .Values.clouds.existingSecret | default (printf "%s-clouds" (include "shiftvol.fullname" .)) }}
    defaultMode: 0400
{{- end }}
{{- end -}}

{{/* The Secret's URL goes before the file. */}}
{{- define "shiftvol.transportEnv" -}}
{{- $existing := .Values.transport.existingSecret -}}
{{- if and (not .Values.transport.listen) (include "shiftvol.hasBus" .) }}
- name: SHIFTVOL_TRANSPORT_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "shiftvol.transportSecret" . }}
      key: {{ $existing.name | empty | ternary "transport_url" $existing.urlKey }}
{{- if or (and $existing.name $existing.managementUrlKey) (and (not $existing.name) .Values.transport.managementUrl) }}
- name: SHIFTVOL_MANAGEMENT_URL
  valueFrom:
    secretKeyRef:
      name: {{ include "shiftvol.transportSecret" . }}
      key: {{ $existing.name | empty | ternary "management_url" $existing.managementUrlKey }}
{{- end }}
{{- end }}
{{- end -}}

{{/* A change of configuration makes new pods. */}}
{{- define "shiftvol.checksums" -}}
checksum/etc: {{ include "shiftvol.plugin" . | sha256sum }}
{{- if not .Values.transport.existingSecret.name }}
checksum/transport: {{ printf "%s %s" (include "shiftvol.transportUrl" .) .Values.transport.managementUrl | sha256sum }}
{{- end }}
{{- with .Values.clouds.content }}
checksum/clouds: {{ toYaml . | sha256sum }}
{{- end }}
{{- end -}}

{{/* Node selector, tolerations and so on. Call with (list $ "agent"). */}}
{{- define "shiftvol.placement" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $own := get $root.Values $name -}}
{{- $label := get $root.Values.labels $name -}}
{{- with $own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $label.node_selector_key }}
nodeSelector:
  {{ $label.node_selector_key }}: {{ $label.node_selector_value | default "enabled" | quote }}
{{- else }}
{{- with $own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- $openstack := $root.Values.pod.tolerations.shiftvol }}
{{- with ternary $openstack.tolerations $own.tolerations $openstack.enabled }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with get $root.Values.pod.priorityClassName $name | default $own.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
terminationGracePeriodSeconds: {{ (get $root.Values.pod.lifecycle.termination_grace_period $name).timeout | default $own.terminationGracePeriodSeconds }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "shiftvol.resources" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- $own := deepCopy (ternary (get $root.Values.pod.resources $name) (get $root.Values $name).resources $root.Values.pod.resources.enabled) -}}
{{- if and (eq $name "agent") (eq $root.Values.agent.access "plugin") -}}
{{- $limits := merge (dict $root.Values.agent.deviceResource "1") ($own.limits | default dict) -}}
{{- $_ := set $own "limits" $limits -}}
{{- end -}}
{{- toYaml $own -}}
{{- end -}}

{{/* Waits for HOST:PORT of each, with the image's own Node. */}}
{{- define "shiftvol.waitScript" -}}
const { connect } = require('node:net');
const reach = at => new Promise(done => {
  const [, host, port] = /^(.*):(\d+)$/.exec(at);
  const again = () => { socket.destroy(); setTimeout(() => reach(at).then(done), 2000); };
  const socket = connect({ host, port, timeout: 5000 }, () => { socket.destroy(); console.log(`${at} is there`); done(); });
  socket.once('error', e => { console.log(`${at}: ${e.code}`); again(); }).once('timeout', again);
});
Promise.all(process.argv.slice(1).map(reach));
{{- end -}}

{{- define "shiftvol.node" -}}
/opt/shiftvol/node_modules/node/bin/node
{{- end -}}

{{/* Capabilities of the agent, sorted. */}}
{{- define "shiftvol.capabilities" -}}
{{- $all := .Values.agent.capabilities -}}
{{- if .Values.agent.connectors.modules -}}{{- $all = append $all "SYS_MODULE" -}}{{- end -}}
{{- $all | uniq | sortAlpha | toJson -}}
{{- end -}}

{{/*
Command of a process with the agent's rights. A privileged container has every capability; setpriv takes the others from the bounding set,
from which nothing that is run below can have them back.
*/}}
{{- define "shiftvol.agentCommand" -}}
{{- if eq .Values.agent.access "privileged" -}}
{{- $kept := list -}}
{{- range include "shiftvol.capabilities" . | fromJsonArray -}}{{- $kept = append $kept (printf "+%s" (lower .)) -}}{{- end -}}
{{- list "/usr/bin/setpriv" (printf "--bounding-set=-all,%s" (join "," $kept)) "--inh-caps=-all" "--no-new-privs" "/usr/bin/shiftvol" | toJson -}}
{{- else -}}
{{- list "/usr/bin/shiftvol" | toJson -}}
{{- end -}}
{{- end -}}

{{- define "shiftvol.agentSecurity" -}}
runAsUser: 0
runAsGroup: 0
readOnlyRootFilesystem: true
{{- if eq .Values.agent.access "privileged" }}
privileged: true
{{- else }}
privileged: false
# Kubernetes does not take "false" together with CAP_SYS_ADMIN.
allowPrivilegeEscalation: true
capabilities:
  drop: [ALL]
  add: {{ include "shiftvol.capabilities" . }}
seccompProfile:
  type: RuntimeDefault
# The runtimes' profiles forbid every mount.
appArmorProfile:
  type: Unconfined
{{- end }}
{{- end -}}

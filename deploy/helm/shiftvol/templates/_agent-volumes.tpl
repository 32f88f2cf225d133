{{/* README.md's table says why each is there. */}}
{{- define "shiftvol.agentVolumes" -}}
{{- $a := .Values.agent -}}
{{ include "shiftvol.etcVolume" . }}
- name: run
  hostPath: {path: {{ $a.paths.run }}, type: DirectoryOrCreate}
- name: state
  hostPath: {path: {{ $a.paths.state }}, type: DirectoryOrCreate}
- name: dev
  hostPath: {path: /dev, type: Directory}
- name: sys
  hostPath: {path: /sys, type: Directory}
- name: runtime
  hostPath: {path: {{ $a.runtime.socketDir }}, type: Directory}
- name: subuid
  hostPath: {path: /etc/subuid, type: File}
- name: subgid
  hostPath: {path: /etc/subgid, type: File}
- name: tmp
  emptyDir: {}
{{- if $a.connectors.iscsi }}
- name: iscsi-etc
  hostPath: {path: /etc/iscsi, type: Directory}
- name: iscsi-state
  hostPath: {path: /var/lib/iscsi, type: DirectoryOrCreate}
{{- end }}
{{- if $a.connectors.nvme }}
- name: nvme-etc
  hostPath: {path: /etc/nvme, type: DirectoryOrCreate}
{{- end }}
{{- if $a.connectors.multipath }}
- name: multipath-etc
  hostPath: {path: /etc/multipath, type: DirectoryOrCreate}
{{- end }}
{{- if or $a.connectors.iscsi $a.connectors.nvme $a.connectors.multipath }}
- name: udev
  hostPath: {path: /run/udev, type: Directory}
{{- end }}
{{- if $a.connectors.modules }}
- name: modules
  hostPath: {path: /lib/modules, type: Directory}
{{- end }}
{{- with $a.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "shiftvol.agentMounts" -}}
{{- $a := .Values.agent -}}
- {name: etc, mountPath: /etc/shiftvol, readOnly: true}
{{- if or .Values.clouds.content .Values.clouds.existingSecret }}
- {name: clouds, mountPath: /etc/openstack, readOnly: true}
{{- end }}
- {name: run, mountPath: {{ $a.paths.run }}, mountPropagation: Bidirectional}
- {name: state, mountPath: {{ $a.paths.state }}, mountPropagation: Bidirectional}
- {name: dev, mountPath: /dev, mountPropagation: HostToContainer}
- {name: sys, mountPath: /sys, mountPropagation: HostToContainer}
- {name: runtime, mountPath: {{ $a.runtime.socketDir }}, mountPropagation: HostToContainer}
- {name: subuid, mountPath: /etc/subuid, readOnly: true}
- {name: subgid, mountPath: /etc/subgid, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if $a.connectors.iscsi }}
- {name: iscsi-etc, mountPath: /etc/iscsi}
- {name: iscsi-state, mountPath: /var/lib/iscsi}
{{- end }}
{{- if $a.connectors.nvme }}
- {name: nvme-etc, mountPath: /etc/nvme}
{{- end }}
{{- if $a.connectors.multipath }}
- {name: multipath-etc, mountPath: /etc/multipath}
{{- end }}
{{- if or $a.connectors.iscsi $a.connectors.nvme $a.connectors.multipath }}
- {name: udev, mountPath: /run/udev, readOnly: true}
{{- end }}
{{- if $a.connectors.modules }}
- {name: modules, mountPath: /lib/modules, readOnly: true}
{{- end }}
{{- with $a.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

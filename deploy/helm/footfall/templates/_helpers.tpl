{{- define "footfall.labels" -}}
app.kubernetes.io/name: footfall
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "footfall.name" -}}
{{ .root.Release.Name | trunc 50 | trimSuffix "-" }}-{{ .component }}
{{- end }}

{{/* What every pod has. The container's user is a number, because Kubernetes cannot know that a name is not root. */}}
{{- define "footfall.pod" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "footfall.labels" . | nindent 8 }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 256Mi}
{{- if .copies }}
  - name: copies
    emptyDir: {sizeLimit: {{ .copies }}}
{{- end }}
{{- with .root.Values.authorityConfigMap }}
  - name: authority
    configMap: {name: {{ . }}}
{{- end }}
{{- end }}

{{- define "footfall.container" -}}
name: {{ .component }}
image: "{{ .root.Values.image.repository }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}"
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
envFrom:
  - secretRef: {name: {{ .root.Values.secretName }}}
env:
  - {name: APP_ENV, value: {{ .root.Values.settings.APP_ENV | default "production" | quote }}}
  - {name: BIND_HOST, value: "0.0.0.0"}
  - {name: LOG_FORMAT, value: {{ .root.Values.settings.LOG_FORMAT | default "json" | quote }}}
{{- range $name, $value := omit .root.Values.settings "APP_ENV" "BIND_HOST" "LOG_FORMAT" }}
  - {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
{{- if .copies }}
  - {name: copies, mountPath: /var/lib/footfall}
{{- end }}
{{- if .root.Values.authorityConfigMap }}
  - {name: authority, mountPath: /etc/footfall, readOnly: true}
{{- end }}
{{- end }}

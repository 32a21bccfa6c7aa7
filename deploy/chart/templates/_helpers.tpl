{{- define "fleet.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{- define "fleet.labels" -}}
app.kubernetes.io/name: fleet-pipeline
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* What every container of ours may not do. The image's user has this id. */}}
{{- define "fleet.pod" -}}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "fleet.container" -}}
image: {{ include "fleet.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
envFrom:
  - configMapRef: {name: fleet-settings}
  - secretRef: {name: {{ .Values.postgresSecret | quote }}}
volumeMounts:
  - {name: instance, mountPath: /opt/dagster/dagster.yaml, subPath: dagster.yaml}
{{- end }}

{{- define "fleet.volumes" -}}
volumes:
  - name: instance
    configMap: {name: {{ .Release.Name }}-instance}
{{- end }}

{{- /* A changed configuration starts the processes that read it anew. */}}
{{- define "fleet.checksum" -}}
checksum/settings: {{ include (print .Template.BasePath "/settings.yaml") . | sha256sum }}
{{- end }}

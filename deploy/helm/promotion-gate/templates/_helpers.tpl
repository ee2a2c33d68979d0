{{- /* Names are fixed, because the gate knows them and there is one gate in a cluster. */}}
{{- define "promotion-gate.labels" -}}
app.kubernetes.io/name: promotion-gate
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "promotion-gate.image" -}}
{{- $repository := required "image.repository: name the repository of the gate's image" .Values.image.repository -}}
{{- with .Values.image.digest -}}
{{ printf "%s@%s" $repository . }}
{{- else -}}
{{ printf "%s:%s" $repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- /* The name by which the API server knows the gate. */}}
{{- define "promotion-gate.servingName" -}}
promotion-gate.{{ .Release.Namespace }}.svc
{{- end }}

{{- define "promotion-gate.serviceAccountUser" -}}
system:serviceaccount:{{ .Release.Namespace }}:promotion-gate
{{- end }}

{{- /* The Secret with the certificate, where it is mounted; empty where the gate reads it by itself. */}}
{{- define "promotion-gate.mountedSecret" -}}
{{- if eq .Values.certificates.mode "certManager" -}}
promotion-gate-tls
{{- else if eq .Values.certificates.mode "files" -}}
{{ required "certificates.secretName: name the Secret with the certificate" .Values.certificates.secretName }}
{{- end }}
{{- end }}

{{- /*
Different nodes, if there are enough. Not by a second constraint of the spread: the scheduler then leaves out nodes without a zone, and puts
all replicas on one of them.
*/}}
{{- define "promotion-gate.affinity" -}}
{{- if .Values.affinity.podAntiAffinity }}
{{- toYaml .Values.affinity }}
{{- else }}
{{- $selector := dict "matchLabels" (dict "app.kubernetes.io/name" "promotion-gate") }}
{{- $elsewhere := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" $selector }}
{{- $preferred := list (dict "weight" 100 "podAffinityTerm" $elsewhere) }}
{{- $spread := dict "podAntiAffinity" (dict "preferredDuringSchedulingIgnoredDuringExecution" $preferred) }}
{{- toYaml (merge $spread .Values.affinity) }}
{{- end }}
{{- end }}

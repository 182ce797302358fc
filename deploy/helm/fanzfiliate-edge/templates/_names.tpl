{{- define "fanz.fullname" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "fanz.edge.name" -}}{{ include "fanz.fullname" . }}-edge{{- end -}}
{{- define "fanz.aggregator.name" -}}{{ include "fanz.fullname" . }}-aggregator{{- end -}}

{{/* Labels of an object of `component`. */}}
{{- define "fanz.labels" -}}
{{ include "fanz.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "fanz.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The image of a component's values. */}}
{{- define "fanz.image" -}}
{{- $image := .values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{/* The most edges at once: settings and certificates exist for as many. */}}
{{- define "fanz.edge.count" -}}
{{- $edge := .Values.edge -}}
{{- ternary $edge.replicas $edge.autoscaling.maxReplicas (eq $edge.autoscaling.kind "none") | int -}}
{{- end -}}

{{/* The numbers of all nodes, separated by spaces. */}}
{{- define "fanz.edge.nodes" -}}
{{- $first := int .Values.edge.firstNode -}}
{{- $count := int (include "fanz.edge.count" .) -}}
{{- $last := sub (add $first $count) 1 -}}
{{- if gt $last 65535 -}}
{{- fail (printf "edge.firstNode = %d with %d edges needs node %d; a node's number is at most 65535: lower edge.firstNode" $first $count $last) -}}
{{- end -}}
{{- range $index := until $count }}{{ if $index }} {{ end }}{{ add $first $index }}{{ end -}}
{{- end -}}

{{/* The aggregator's address for edges. The headless Service resolves to the pod itself, so that no connection table of
     a Service's address keeps a UDP flow to an earlier pod. */}}
{{- define "fanz.aggregator.address" -}}
{{- $address := .Values.edge.aggregatorAddress -}}
{{- if and $address .Values.aggregator.enabled -}}
{{- fail (printf "edge.aggregatorAddress = %q, and aggregator.enabled = true: leave the address empty, or set aggregator.enabled = false" $address) -}}
{{- else if $address -}}
{{- $address -}}
{{- else if .Values.aggregator.enabled -}}
{{ include "fanz.aggregator.name" . }}.{{ .Release.Namespace }}.svc:7400
{{- else -}}
{{- fail "edge.aggregatorAddress is empty and aggregator.enabled = false: give host:port (UDP) of the aggregator, or enable it" -}}
{{- end -}}
{{- end -}}

{{- define "fanz.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int .Values.user }}
runAsGroup: {{ int .Values.user }}
# Secrets belong to root and are readable by this group. Files on the volume keep their own modes.
fsGroup: {{ int .Values.user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "fanz.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where pods run. */}}
{{- define "fanz.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

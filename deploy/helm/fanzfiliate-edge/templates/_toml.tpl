{{/* A table of settings as TOML. JSON's strings are TOML's. Numbers of values files are floating-point in Helm, so
     integers are written as such. */}}
{{- define "fanz.toml" -}}
{{- range $key, $value := .table }}
{{- if and (not (kindIs "map" $value)) (not (kindIs "invalid" $value)) }}
{{ include "fanz.toml.key" $key }} = {{ include "fanz.toml.value" $value }}
{{- end }}
{{- end }}
{{- range $key, $value := .table }}
{{- if kindIs "map" $value }}
{{- $path := include "fanz.toml.key" $key }}
{{- if $.path }}{{ $path = printf "%s.%s" $.path $path }}{{ end }}

[{{ $path }}]
{{- include "fanz.toml" (dict "path" $path "table" $value) }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "fanz.toml.key" -}}
{{- if regexMatch "^[A-Za-z0-9_-]+$" . }}{{ . }}{{ else }}{{ toJson . }}{{ end -}}
{{- end -}}

{{- define "fanz.toml.value" -}}
{{- if kindIs "slice" . -}}
[{{ range $index, $item := . }}{{ if $index }}, {{ end }}{{ include "fanz.toml.value" $item }}{{ end }}]
{{- else if and (kindIs "float64" .) (eq (floor .) .) -}}
{{ int64 . }}
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

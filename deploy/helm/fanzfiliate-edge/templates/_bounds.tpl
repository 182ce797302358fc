{{/* Bounds of lengths of time and sizes, which a JSON schema can't express. files/bounds.json is generated from the
     programs. */}}

{{- define "fanz.checkBounds" -}}
{{- $bounds := .root.Files.Get "files/bounds.json" | fromJson -}}
{{- include "fanz.checkTable" (dict "table" .settings "bounds" (get $bounds .program) "keys" "" "path" (printf "%s.settings" .values)) -}}
{{- end -}}

{{- define "fanz.checkTable" -}}
{{- range $key, $value := .table -}}
{{- $keys := ternary (printf "%s.%s" $.keys $key) $key (ne $.keys "") -}}
{{- if kindIs "map" $value -}}
{{- include "fanz.checkTable" (dict "table" $value "bounds" $.bounds "keys" $keys "path" $.path) -}}
{{- else if hasKey $.bounds $keys -}}
{{- include "fanz.checkValue" (dict "name" (printf "%s.%s" $.path $keys) "value" $value "bound" (get $.bounds $keys)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "fanz.checkValue" -}}
{{- $least := .bound.minimum -}}
{{- $most := .bound.maximum -}}
{{- $number := include "fanz.number" .value | int64 -}}
{{- if or (lt $number (include "fanz.number" $least | int64)) (gt $number (include "fanz.number" $most | int64)) -}}
{{- fail (printf "%s = %v is out of bounds: from %q to %q" .name .value $least $most) -}}
{{- end -}}
{{- end -}}

{{/* Milliseconds of "90s", bytes of "64MiB" and of 1024. The schema has checked the form. */}}
{{- define "fanz.number" -}}
{{- $text := toString . -}}
{{- if kindIs "float64" . }}{{ $text = toString (int64 .) }}{{ end -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 "" 1 "B" 1 "KiB" 1024 "MiB" 1048576 "GiB" 1073741824 "TiB" 1099511627776 -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $units (regexFind "[A-Za-z]*$" $text) | int64) -}}
{{- end -}}

{{/* Bytes of a quantity of Kubernetes, such as 10Gi. */}}
{{- define "fanz.quantity" -}}
{{- $text := toString . -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get $units (regexFind "[A-Za-z]*$" $text) | int64) -}}
{{- end -}}

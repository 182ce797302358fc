{{/* The name of a secret's object; refused unless exactly one source is given. `why` says what needs it. */}}
{{- define "fanz.secret" -}}
{{- $secret := get .root.Values.secrets .name -}}
{{- $sources := 0 -}}
{{- if $secret.existingSecret }}{{ $sources = add1 $sources }}{{ end -}}
{{- if $secret.remoteKey }}{{ $sources = add1 $sources }}{{ end -}}
{{- if $secret.data }}{{ $sources = add1 $sources }}{{ end -}}
{{- if ne (int $sources) 1 -}}
{{- fail (printf "secrets.%s has %d sources, and needs one (%s): give existingSecret, remoteKey or data, with the keys %s" .name (int $sources) .why (join ", " (include "fanz.secret.keys" . | fromYamlArray))) -}}
{{- end -}}
{{- if $secret.data -}}
{{- range $key := include "fanz.secret.keys" . | fromYamlArray -}}
{{- if not (get $secret.data $key) -}}
{{- fail (printf "secrets.%s.data lacks %s: add it, or give existingSecret or remoteKey instead" $.name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- default (printf "%s-%s" (include "fanz.fullname" .root) (kebabcase .name)) $secret.existingSecret -}}
{{- end -}}

{{/* The keys of a secret that are mounted. */}}
{{- define "fanz.secret.keys" -}}
{{- if eq .name "edgeCertificates" }}
- ca.pem
{{- range $node := splitList " " (include "fanz.edge.nodes" .root) }}
- edge-{{ $node }}.pem
- edge-{{ $node }}.key
{{- end }}
{{- else }}
{{- get (dict "clickIdKeys" "- secrets.toml" "aggregatorCertificates" "- ca.pem\n- aggregator.pem\n- aggregator.key" "clickhouse" "- password" "postgresql" "- password" "functions" "- advertisers.toml\n- variables.toml" "postbacks" "- postbacks.toml") .name }}
{{- end }}
{{- end -}}

{{/* The names of the secrets that this release uses, with the reason. */}}
{{- define "fanz.secrets" -}}
{{- $edge := .Values.edge.enabled -}}
{{- $aggregator := .Values.aggregator.enabled -}}
{{- if $edge }}
edgeCertificates: edges prove to the aggregator which node they are
{{- end }}
{{- if or $edge (and $aggregator .Values.functions.enabled) }}
clickIdKeys: click ids are signed with them
{{- end }}
{{- if $aggregator }}
aggregatorCertificates: the aggregator proves to edges what it is
clickhouse: the aggregator signs in with it
{{- if .Values.aggregator.settings.store }}
{{- if .Values.aggregator.settings.store.url }}
postgresql: aggregator.settings.store.url names PostgreSQL
{{- end }}
{{- end }}
{{- if .Values.aggregator.postbacks.enabled }}
postbacks: aggregator.postbacks.enabled is true
{{- end }}
{{- end }}
{{- if .Values.functions.enabled }}
functions: functions.enabled is true
{{- end }}
{{- end -}}

{{/* The volume of a secret whose keys are files. */}}
{{- define "fanz.secretVolume" -}}
{{- $why := get (include "fanz.secrets" .root | fromYaml) .name -}}
secret:
  secretName: {{ include "fanz.secret" (dict "root" .root "name" .name "why" $why) }}
  defaultMode: 0400
  items:
    {{- range $key := include "fanz.secret.keys" . | fromYamlArray }}
    - { key: {{ $key }}, path: {{ $key }} }
    {{- end }}
{{- end -}}

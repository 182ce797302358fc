{{/* Settings files: those of the values, and those that follow from the chart's mounts. */}}

{{- define "fanz.edge.settings" -}}
{{- $root := .root -}}
{{- $edge := $root.Values.edge -}}
{{- include "fanz.checkBounds" (dict "root" $root "program" "edge-tracker" "values" "edge" "settings" $edge.settings) -}}
{{- $functions := $root.Values.functions -}}
{{- if and (get $edge.settings "functions") (not $functions.enabled) -}}
{{- fail "edge.settings.functions is given, and functions.enabled = false: set functions.enabled = true, or remove the table" -}}
{{- end -}}
{{- $fixed := dict
  "node" .node
  "data_dir" "/var/lib/fanzfiliate-edge/data"
  "secrets" "/etc/fanzfiliate-edge/click-id-keys/secrets.toml"
  "http" (dict "listen" "0.0.0.0:8080" "admin_listen" "0.0.0.0:8081")
  "links" (dict "file" "/etc/fanzfiliate-edge/links/links.toml")
  "tls" (dict "dir" "/etc/fanzfiliate-edge/tls")
  "aggregator" (dict "address" (include "fanz.aggregator.address" $root))
-}}
{{- if not (hasKey $edge.settings "workers") }}{{ $_ := set $fixed "workers" (int $edge.cores) }}{{ end -}}
{{- range $file := list "country" "asn" -}}
{{- if get $edge.geo $file -}}
{{- if not $edge.geo.volume -}}
{{- fail (printf "edge.geo.%s = %q needs edge.geo.volume: any volume source with this file" $file (get $edge.geo $file)) -}}
{{- end -}}
{{- $_ := set $fixed "geo" (merge (dict $file (printf "/etc/fanzfiliate-edge/geo/%s" (get $edge.geo $file))) (default dict (get $fixed "geo"))) -}}
{{- end -}}
{{- end -}}
{{- if $functions.enabled -}}
{{- $limits := dict "concurrency" 32 -}}
{{- $_ := set $fixed "functions" (dict
  "manifest" (printf "%s/%s" $functions.directory $functions.manifest)
  "advertisers" "/etc/fanzfiliate-edge/functions/advertisers.toml"
  "variables" "/etc/fanzfiliate-edge/functions/variables.toml") -}}
{{- $given := default dict (get (default dict (get $edge.settings "functions")) "limits") -}}
{{- if not (hasKey $given "concurrency") }}{{ $_ := set (get $fixed "functions") "limits" $limits }}{{ end -}}
{{- end -}}
{{- include "fanz.toml" (dict "path" "" "table" (mergeOverwrite (deepCopy $edge.settings) $fixed)) | trim -}}
{{- end -}}

{{- define "fanz.aggregator.settings" -}}
{{- $aggregator := .Values.aggregator -}}
{{- $given := $aggregator.settings -}}
{{- include "fanz.checkBounds" (dict "root" . "program" "aggregator" "values" "aggregator" "settings" $given) -}}
{{- if not $given.clickhouse.url -}}
{{- fail "aggregator.settings.clickhouse.url is empty: give the URL of your ClickHouse, such as https://clickhouse.example:8443" -}}
{{- end -}}
{{- $etc := "/etc/fanzfiliate-edge" -}}
{{- $clickhouse := dict "password_file" (printf "%s/clickhouse/password" $etc) -}}
{{- if $aggregator.authorities.clickhouse.existingConfigMap }}{{ $_ := set $clickhouse "ca_file" (printf "%s/clickhouse-authority/ca.pem" $etc) }}{{ end -}}
{{- $fixed := dict
  "data_dir" "/var/lib/fanzfiliate-edge/data"
  "listen" "0.0.0.0:7400"
  "admin_listen" "0.0.0.0:7401"
  "tls" (dict "dir" (printf "%s/tls" $etc))
  "clickhouse" $clickhouse
-}}
{{- $store := default dict (get $given "store") -}}
{{- if $store.url -}}
{{- $url := $store.url -}}
{{- if or (regexMatch "^[^?]*//[^@/?]*:[^@/?]*@" $url) (contains "password=" $url) -}}
{{- fail "aggregator.settings.store.url holds a password, which everyone with access to ConfigMaps could read: remove it, and give secrets.postgresql" -}}
{{- end -}}
{{- if $aggregator.authorities.postgresql.existingConfigMap -}}
{{- $url = printf "%s%ssslrootcert=%s/postgresql-authority/ca.pem" $url (ternary "&" "?" (contains "?" $url)) $etc -}}
{{- end -}}
{{- $_ := set $fixed "store" (dict "url" $url "password_file" (printf "%s/postgresql/password" $etc)) -}}
{{- end -}}
{{- if $aggregator.postbacks.enabled -}}
{{- $_ := set $fixed "outgoing" (dict "postbacks" (printf "%s/postbacks/postbacks.toml" $etc)) -}}
{{- else if get $given "outgoing" -}}
{{- fail "aggregator.settings.outgoing is given, and aggregator.postbacks.enabled = false: set aggregator.postbacks.enabled = true, or remove the table" -}}
{{- end -}}
{{- if .Values.functions.enabled -}}
{{- $reports := dict
  "advertisers" (printf "%s/functions/advertisers.toml" $etc)
  "variables" (printf "%s/functions/variables.toml" $etc)
  "secrets" (printf "%s/click-id-keys/secrets.toml" $etc)
-}}
{{- if include "fanz.links.volume" . }}{{ $_ := set $reports "links" (printf "%s/links/links.toml" $etc) }}{{ end -}}
{{- $_ := set $fixed "reports" $reports -}}
{{- else if get $given "reports" -}}
{{- fail "aggregator.settings.reports is given, and functions.enabled = false: set functions.enabled = true, or remove the table" -}}
{{- end -}}
{{- include "fanz.toml" (dict "path" "" "table" (mergeOverwrite (deepCopy $given) $fixed)) | trim -}}
{{- end -}}

{{/* The volume source of links.toml; empty if no source is given. */}}
{{- define "fanz.links.volume" -}}
{{- $links := .Values.edge.links -}}
{{- if $links.volume -}}
{{ toYaml $links.volume }}
{{- else if or $links.existingConfigMap $links.content -}}
configMap:
  name: {{ default (printf "%s-links" (include "fanz.fullname" .)) $links.existingConfigMap }}
{{- end -}}
{{- end -}}

{{- define "ghmirror.name" -}}
{{- if contains "ghmirror" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-ghmirror{{ end -}}
{{- end -}}

{{- define "ghmirror.selector" -}}
app.kubernetes.io/name: ghmirror
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "ghmirror.labels" -}}
{{ include "ghmirror.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "ghmirror.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- /* An option's value in an INI file: lists have one entry a line, numbers no exponent. */ -}}
{{- define "ghmirror.value" -}}
{{- if kindIs "slice" . }}{{ range . }}{{ printf "\n    %v" . }}{{ end }}
{{- else if kindIs "float64" . }}{{ int64 . }}
{{- else }}{{ . }}{{ end -}}
{{- end -}}

{{- /* The configuration: options and files of each section. */ -}}
{{- define "ghmirror.ini" -}}
{{- $config := .Values.config | default dict }}
{{- $files := .Values.secretFiles | default dict }}
{{- range $section := concat (keys $config) (keys $files) | uniq | sortAlpha }}
[{{ $section }}]
{{- range $option, $value := index $config $section }}
{{ $option }} = {{ include "ghmirror.value" $value }}
{{- end }}
{{- range $option, $_ := index $files $section }}
{{ $option }} = /run/secrets/ghmirror/{{ $section }}/{{ trimSuffix "_path" $option }}
{{- end }}
{{ end }}
{{- end -}}

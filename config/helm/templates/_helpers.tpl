{{- define "quota.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "quota.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: exporter
{{- end }}

{{- define "quota.labels" -}}
{{ include "quota.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "quota.redisSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: redis
{{- end }}

{{- define "quota.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "quota.installsRedis" -}}
{{- if and (eq .Values.storage.kind "redis") (not .Values.storage.redis.urlSecret) }}true{{ end }}
{{- end }}

{{- define "quota.pod" -}}
metadata:
  labels:
    {{- include "quota.labels" . | nindent 4 }}
  annotations:
    # The exporter starts anew with a changed configuration, and the old one goes on if it is bad.
    checksum/config: {{ toYaml .Values.config | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "quota.name" . }}
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 60
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10042
    runAsGroup: 10042
    fsGroup: 10042
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if eq .Values.storage.kind "redis" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "quota.selector" . | nindent 10 }}
  {{- end }}
  containers:
    - name: exporter
      image: {{ include "quota.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - serve
        - --config.file=/etc/llm-quota-exporter/quota.yml
        {{- if eq .Values.storage.kind "sqlite" }}
        - --storage.url=sqlite:////data/quota.db
        {{- else }}
        - --storage.url=$(STORAGE_URL)
        {{- end }}
        - --web.listen-address=:{{ .Values.service.port }}
        {{- if .Values.otlp.grpc.enabled }}
        - --otlp.grpc-address=:{{ .Values.otlp.grpc.port }}
        {{- end }}
        {{- if .Values.web.configSecret }}
        - --web.config.file=/etc/llm-quota-exporter-web/web.yml
        {{- end }}
        {{- with .Values.web.externalUrl }}
        - --web.external-url={{ . }}
        {{- end }}
        {{- if or .Values.web.externalUrl .Values.web.routePrefix }}
        - --web.route-prefix={{ .Values.web.routePrefix | default "/" }}
        {{- end }}
        {{- range .Values.extraArgs }}
        - {{ . | quote }}
        {{- end }}
      {{- if eq .Values.storage.kind "redis" }}
      env:
        - name: STORAGE_URL
          {{- if .Values.storage.redis.urlSecret }}
          valueFrom:
            secretKeyRef: {name: {{ .Values.storage.redis.urlSecret }}, key: url}
          {{- else }}
          value: redis://{{ include "quota.name" . }}-redis:6379/0
          {{- end }}
      {{- end }}
      ports:
        - {name: http, containerPort: {{ .Values.service.port }}}
        {{- if .Values.otlp.grpc.enabled }}
        - {name: otlp-grpc, containerPort: {{ .Values.otlp.grpc.port }}}
        {{- end }}
      # A start reads the history: with 1,000 providers and five weeks of it that takes seconds.
      startupProbe:
        httpGet: {path: {{ .Values.web.routePrefix }}/-/ready, port: http, scheme: {{ .Values.web.scheme }}}
        periodSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: {{ .Values.web.routePrefix }}/-/healthy, port: http, scheme: {{ .Values.web.scheme }}}
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {path: {{ .Values.web.routePrefix }}/-/ready, port: http, scheme: {{ .Values.web.scheme }}}
        periodSeconds: 5
        timeoutSeconds: 5
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/llm-quota-exporter, readOnly: true}
        {{- if .Values.configSecret }}
        - {name: config-secret, mountPath: /etc/llm-quota-exporter-secrets, readOnly: true}
        {{- end }}
        {{- if .Values.web.configSecret }}
        - {name: web-config, mountPath: /etc/llm-quota-exporter-web, readOnly: true}
        {{- end }}
        {{- if eq .Values.storage.kind "sqlite" }}
        - {name: data, mountPath: /data}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
  volumes:
    # The folder and not one file of it: a mounted single file is never replaced.
    - name: config
      configMap: {name: {{ include "quota.name" . }}}
    {{- if .Values.configSecret }}
    - name: config-secret
      secret: {secretName: {{ .Values.configSecret }}}
    {{- end }}
    {{- if .Values.web.configSecret }}
    - name: web-config
      secret: {secretName: {{ .Values.web.configSecret }}}
    {{- end }}
    - name: tmp
      emptyDir: {}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

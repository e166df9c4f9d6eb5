{{/*
What the charts of this folder share. Each chart links to this file, so that a packaged chart stands alone.
*/}}

{{/*
Local volumes, one per entry of storage.local ("0": {host, path}), and the claims made for them in advance.
root: top context, app: label app, pv and pvc: name prefixes, index: spelling of the index label, labels: further labels of volume and
selector, max: highest number of indexes ("" = no limit), pvNamespace: whether volumes carry a namespace, pvClass and pvcClass: whether
storageClassName "" is written.
*/}}
{{- define "lab.volumes" -}}
{{- $ := .root -}}
{{- $labels := dict "app" .app -}}
{{- range $key, $value := .labels }}{{ $_ := set $labels $key $value }}{{ end -}}
{{- $args := . -}}
{{- range $i, $place := $.Values.storage.local }}
{{- if or (not $args.max) (lt (int $i) (int $args.max)) }}
---
apiVersion: v1
kind: PersistentVolume
metadata:
  name: {{ $args.pv }}-{{ $i }}
  {{- if $args.pvNamespace }}
  namespace: {{ $.Values.namespace }}
  {{- end }}
  labels:
    {{- range $key, $value := $labels }}
    {{ $key }}: {{ $value | quote }}
    {{- end }}
    {{ $args.index }}: {{ $i | quote }}
spec:
  capacity:
    storage: {{ $.Values.storage.capacity | default $args.capacity }}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  {{- if $args.pvClass }}
  storageClassName: ""
  {{- end }}
  local:
    path: {{ $place.path }}
  nodeAffinity:
    required:
      nodeSelectorTerms:
        - matchExpressions:
            - key: kubernetes.io/hostname
              operator: In
              values: [{{ $place.host | quote }}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $args.pvc }}-{{ $i }}
  namespace: {{ $.Values.namespace }}
spec:
  accessModes: [ReadWriteOnce]
  {{- if $args.pvcClass }}
  storageClassName: ""
  {{- end }}
  selector:
    matchLabels:
      {{- range $key, $value := $labels }}
      {{ $key }}: {{ $value | quote }}
      {{- end }}
      {{ $args.index }}: {{ $i | quote }}
  resources:
    requests:
      storage: {{ $.Values.storage.capacity | default $args.capacity }}
{{- end }}
{{- end }}
{{- end }}

{{/* A volume claim template without selector. root, name, class: whether storageClassName "" is written, capacity: default. */}}
{{- define "lab.claimTemplate" -}}
- metadata:
    name: {{ .name }}
  spec:
    accessModes: [ReadWriteOnce]
    {{- if .class }}
    storageClassName: ""
    {{- end }}
    resources:
      requests:
        storage: {{ .root.Values.storage.capacity | default .capacity }}
{{- end }}

{{/* The environment by which a server knows its pod. */}}
{{- define "lab.podEnv" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: POD_NAMESPACE
  valueFrom: { fieldRef: { fieldPath: metadata.namespace } }
- name: POD_IP
  valueFrom: { fieldRef: { fieldPath: status.podIP } }
{{- end }}

{{/* The main container where the lab's own writer stands in for the server. root, name, kind, port, data, volume, mount: path of the volume if other than data, user: uid. */}}
{{- define "lab.writer" -}}
- name: {{ .name }}
  image: {{ .root.Values.image }}
  imagePullPolicy: IfNotPresent
  args: [serve, --kind, {{ .kind }}, --data, {{ .data }}, --port, {{ .port | quote }}]
  {{- if .user }}
  securityContext: { runAsUser: {{ .user }}, runAsGroup: {{ .user }} }
  {{- end }}
  env:
    {{- include "lab.podEnv" .root | nindent 4 }}
  ports:
    - containerPort: {{ .port }}
  readinessProbe:
    httpGet: { path: /health, port: {{ .port }} }
    periodSeconds: 2
    failureThreshold: 3
  resources: {{- toYaml .root.Values.resources | nindent 4 }}
  volumeMounts:
    - name: {{ .volume }}
      mountPath: {{ .mount | default .data }}
{{- end }}

{{/* Containers that only have to be there. root, names. */}}
{{- define "lab.idle" -}}
{{- $ := .root -}}
{{- range .names }}
- name: {{ . }}
  image: {{ $.Values.sidecarImage }}
  imagePullPolicy: IfNotPresent
  args: [idle]
  resources: {{- toYaml $.Values.resources | nindent 4 }}
{{- end }}
{{- end }}

{{/* A service. root, name, port, selector (map), headless. */}}
{{- define "lab.service" -}}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  namespace: {{ .root.Values.namespace }}
spec:
  {{- if .headless }}
  clusterIP: None
  publishNotReadyAddresses: true
  {{- end }}
  selector: {{- toYaml .selector | nindent 4 }}
  ports:
    - name: main
      port: {{ .port }}
{{- end }}

{{/* A ConfigMap that only has to be there. root, name. */}}
{{- define "lab.configMap" -}}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  namespace: {{ .root.Values.namespace }}
data:
  owner: {{ .root.Release.Name }}
{{- end }}

{{/* A side workload without data. root, kind (Deployment or StatefulSet), name, replicas, labels, containers, grace, security (map). */}}
{{- define "lab.side" -}}
---
apiVersion: apps/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  namespace: {{ .root.Values.namespace }}
spec:
  replicas: {{ .replicas }}
  {{- if eq .kind "StatefulSet" }}
  podManagementPolicy: Parallel
  serviceName: {{ .name }}
  {{- end }}
  selector:
    matchLabels: {{- toYaml .labels | nindent 6 }}
  template:
    metadata:
      labels: {{- toYaml .labels | nindent 8 }}
    spec:
      {{- if .grace }}
      terminationGracePeriodSeconds: {{ .grace }}
      {{- end }}
      {{- if .security }}
      securityContext: {{- toYaml .security | nindent 8 }}
      {{- end }}
      containers:
        {{- include "lab.idle" (dict "root" .root "names" .containers) | nindent 8 }}
{{- end }}

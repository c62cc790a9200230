package cluster

// Claims get real volumes from the provisioner that kind and k3s use, with the
// settings that it ships with: a folder of the node for each claim, made when
// its first pod is scheduled, open to any user, and removed with the claim.
const (
	volumesNamespace = "local-path-storage"

	volumes = `---
apiVersion: v1
kind: Namespace
metadata: {name: ` + volumesNamespace + `}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: rancher.io/local-path
volumeBindingMode: WaitForFirstConsumer
reclaimPolicy: Delete
---
apiVersion: v1
kind: ConfigMap
metadata: {name: local-path-config, namespace: ` + volumesNamespace + `}
data:
  config.json: |
    {"nodePathMap": [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": ["` + StateDir + `/volumes"]}]}
  setup: |
    #!/bin/sh
    set -eu
    mkdir -m 0777 -p "$VOL_DIR"
  teardown: |
    #!/bin/sh
    set -eu
    rm -rf "$VOL_DIR"
  helperPod.yaml: |
    apiVersion: v1
    kind: Pod
    metadata:
      name: helper-pod
    spec:
      containers:
        - name: helper-pod
          image: busybox
          imagePullPolicy: IfNotPresent
`
)

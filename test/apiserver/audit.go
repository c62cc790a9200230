package apiserver

import (
	"bufio"
	"encoding/json"
	"os"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// auditPolicy has one line in the audit log for each request to an object, once
// it is answered.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  resources: [{group: ""}, {group: apps}]
`

// AuditEvent is a request as the API server's audit log has it.
// Source: k8s.io/apiserver/pkg/apis/audit/v1, Event.
type AuditEvent struct {
	Verb       string `json:"verb"`
	UserAgent  string `json:"userAgent"`
	RequestURI string `json:"requestURI"`
	ObjectRef  struct {
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// Audit is what the audit log has of namespace, the oldest first.
func (s *Server) Audit(t testing.TB, namespace string) []AuditEvent {
	t.Helper()
	// An event is written when its answer is: one of our own is the last.
	marker := "no-such-map-" + time.Now().Format("150405.000000")
	if _, err := kubernetes.NewForConfigOrDie(s.Config()).CoreV1().ConfigMaps(namespace).Get(t.Context(), marker, metav1.GetOptions{}); err == nil {
		t.Fatalf("configmap/%s exists", marker)
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if events, complete := s.audited(t, namespace, marker); complete {
			return events
		}
	}
	t.Fatal("the audit log does not get to the present")
	return nil
}

func (s *Server) audited(t testing.TB, namespace, last string) (events []AuditEvent, complete bool) {
	t.Helper()
	log, err := os.Open(s.auditLog)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var event AuditEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return nil, false // its line is being written
		}
		if event.ObjectRef.Namespace != namespace {
			continue
		}
		if event.ObjectRef.Name == last {
			return events, true
		}
		events = append(events, event)
	}
	return nil, false
}

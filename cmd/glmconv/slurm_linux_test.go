package main

import (
	"crypto/rand"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/glmconv/glmconv/internal/fakes"
	"github.com/glmconv/glmconv/internal/fakes/fakehub"
	"github.com/glmconv/glmconv/internal/testkit"
)

// cluster is a Slurm of two nodes on this machine, of a user without rights.
type cluster struct {
	t    *testing.T
	dir  string
	env  []string
	node map[string]*exec.Cmd
}

// slurmConf is a configuration that needs no root: own ports, own folders, own munge.
const slurmConf = `ClusterName=glmconv
SlurmctldHost=%[1]s(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket=%[2]s/munge/socket,cred_expire=5
CredType=cred/munge
SlurmUser=%[3]s
SlurmdUser=%[3]s
SlurmctldPort=%[4]d
StateSaveLocation=%[2]s/state
SlurmdSpoolDir=%[2]s/spool-%%n
SlurmctldPidFile=%[2]s/ctld.pid
SlurmdPidFile=%[2]s/slurmd-%%n.pid
SlurmctldLogFile=%[2]s/ctld.log
SlurmdLogFile=%[2]s/slurmd-%%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout=10
NodeName=n[1-2] NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=[%[5]d-%[6]d] CPUs=1 RealMemory=1000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
`

// newCluster starts two nodes and waits until they are idle.
func newCluster(t *testing.T, env []string) *cluster {
	dir, err := os.MkdirTemp("", "glmconv-slurm-") // where another user may go, unlike t.TempDir
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755)) //nolint:gosec // see above
	owner, err := user.Current()
	require.NoError(t, err)
	if owner.Uid == "0" {
		owner, err = user.LookupId("65534")
		require.NoError(t, err)
	}
	for _, d := range []string{"munge", "state", "spool-n1", "spool-n2", "home"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, d), 0o700))
	}
	key := make([]byte, 128)
	_, _ = rand.Read(key)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "munge", "key"), key, 0o600))
	host, err := os.Hostname()
	require.NoError(t, err)
	host, _, _ = strings.Cut(host, ".")
	port := 17000 + os.Getpid()%2000*3
	conf := filepath.Join(dir, "slurm.conf")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, slurmConf, host, dir, owner.Username, port, port+1, port+2), 0o644))
	uid, err := strconv.Atoi(owner.Uid)
	require.NoError(t, err)
	require.NoError(t, filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(p, uid, -1)
	}))
	home := filepath.Join(dir, "home")
	env = append([]string{"SLURM_CONF=" + conf, "HOME=" + home, "PATH=" + dir + ":" + os.Getenv("PATH") + ":/usr/sbin"}, env...)
	c := &cluster{t: t, dir: dir, node: map[string]*exec.Cmd{}, env: append(env, "HF_HOME="+filepath.Join(home, "hub"))} // of the jobs' user: the test's folders are closed to it
	t.Cleanup(func() { c.kill(func(string) bool { return true }) })
	m := filepath.Join(dir, "munge")
	c.daemon("munged", "--foreground", "--force", "--key-file="+m+"/key", "--socket="+m+"/socket", "--pid-file="+m+"/pid", "--log-file="+m+"/log", "--seed-file="+m+"/seed")
	require.Eventually(t, func() bool { _, err := os.Stat(m + "/socket"); return err == nil }, 20*time.Second, 50*time.Millisecond)
	c.daemon("slurmctld", "-D", "-c")
	for _, n := range []string{"n1", "n2"} {
		c.node[n] = c.daemon("slurmd", "-D", "-N", n)
	}
	require.Eventually(t, func() bool { return strings.Count(c.say("sinfo", "-h", "-N", "-o", "%N %t"), "idle") == 2 }, time.Minute, 200*time.Millisecond, "two idle nodes")
	return c
}

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	if p, err := exec.LookPath("/usr/sbin/" + name); err == nil {
		cmd = exec.Command(p, args...)
	}
	cmd.Dir, cmd.Env = c.dir, c.env
	if os.Getuid() == 0 {
		cmd.SysProcAttr = nobody()
	}
	return cmd
}

// say returns what a command prints.
func (c *cluster) say(name string, args ...string) string {
	out, _ := c.command(name, args...).CombinedOutput()
	return strings.TrimSpace(string(out))
}

// daemon starts a process that lasts as long as the test.
func (c *cluster) daemon(name string, args ...string) *exec.Cmd {
	cmd := c.command(name, args...)
	require.NoError(c.t, cmd.Start())
	c.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// kill ends the processes of this cluster whose environment is chosen, with the
// steps that hold them.
func (c *cluster) kill(choose func(environ string) bool) (killed int) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range all {
		raw, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(raw), c.dir) || !choose(string(raw)+"\x00") {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if pid == os.Getpid() {
			continue
		}
		if stat, err := os.ReadFile(filepath.Join(filepath.Dir(path), "stat")); err == nil {
			fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
			parent, _ := strconv.Atoi(fields[1])
			if name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent)); strings.HasPrefix(string(name), "slurmstepd") {
				_ = syscall.Kill(parent, syscall.SIGKILL)
			}
		}
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			killed++
		}
	}
	return killed
}

// lose kills a node with all that runs on it.
func (c *cluster) lose(name string) {
	require.NoError(c.t, c.node[name].Process.Kill())
	assert.NotZero(c.t, c.kill(func(environ string) bool { return strings.Contains(environ, "SLURMD_NODENAME="+name+"\x00") }), "something ran on %s", name)
}

// on returns a task that runs on a node: an id as 7_3, "" if none does.
func (c *cluster) on(node string) string {
	for line := range strings.Lines(c.say("squeue", "-h", "-r", "-t", "R", "-o", "%i %N")) {
		if id, at, ok := strings.Cut(strings.TrimSpace(line), " "); ok && at == node {
			return id
		}
	}
	return ""
}

// TestClusterOfTwoNodes shares a conversion among two nodes of a real Slurm, with
// the script that submit prints: six parts of which one must come again (75), one
// is told to stop (SIGTERM) and one loses its node. The bytes are those of one run.
func TestClusterOfTwoNodes(t *testing.T) {
	if os.Getenv("GLMCONV_TORTURE") == "" {
		t.Skip("SKIPPED: takes a minute: make torture, or GLMCONV_TORTURE=1s")
	}
	for _, name := range []string{"slurmctld", "slurmd", "munged", "sbatch"} {
		_, err := exec.LookPath(name)
		if _, err2 := exec.LookPath("/usr/sbin/" + name); err != nil && err2 != nil {
			t.Skipf("SKIPPED: NO SLURM HERE (%s): no cluster has run the script; Debian: slurmctld slurmd slurm-client munge", name)
		}
	}
	src := tinyShards(t, 100<<10)
	hub := fakehub.New(t, "org/tiny", src)
	c := newCluster(t, hub.Env(t.TempDir()))
	self, err := os.Executable()
	require.NoError(t, err)
	raw, err := os.ReadFile(self)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(c.dir, "glmconv"), raw, 0o755)) // under this name the test is the program
	want, dst := filepath.Join(t.TempDir(), "want"), filepath.Join(c.dir, "home", "dst")
	code, _, errs := glmconv(t, "quantize", "--scheme", "w8a8", src, want)
	require.Zero(t, code, errs)

	for _, e := range c.env {
		if k, v, _ := strings.Cut(e, "="); strings.HasPrefix(k, "HF_") {
			t.Setenv(k, v)
		}
	}
	code, script, errs := glmconv(t, "submit", "slurm", "--parts", "6", "--cpus", "1", "--mem", "500M", "--time", "10", "--", "quantize", "--scheme", "w8a8", "hf://org/tiny", dst)
	require.Zero(t, code, errs)
	hub.Lock()
	refused := 0
	hub.Rate = 60 << 10                            // some seconds for each part
	hub.Fail = func(r fakes.Request) fakes.Fault { // the first data of the first shard is refused for an hour, twice: a block that is fetched ahead is asked for again
		if r.Host == "data" && refused < 2 && !strings.HasSuffix(r.Range, "-32767") && strings.Contains(r.Path, "model-00001-of") {
			refused++
			return fakes.TooLong
		}
		return fakes.None
	}
	hub.Unlock()
	submit := c.command("sbatch", "--parsable")
	submit.Stdin = strings.NewReader(script)
	out, err := submit.Output()
	require.NoError(t, err)
	id := strings.TrimSpace(string(out))

	start := time.Now()
	var told, lost string
	require.Eventually(t, func() bool { lost = c.on("n2"); return lost != "" }, 30*time.Second, 100*time.Millisecond)
	time.Sleep(1500 * time.Millisecond) // into its work
	c.lose("n2")
	require.Eventually(t, func() bool { told = c.on("n1"); return told != "" && told != id+"_1" && told != lost }, 60*time.Second, 100*time.Millisecond)
	time.Sleep(1500 * time.Millisecond)
	c.say("scancel", "--batch", "--signal=TERM", told)
	require.Eventually(t, func() bool { return c.say("squeue", "-h") == "" },
		4*time.Minute, time.Second, "all parts end: %s", c.say("squeue", "-r"))
	t.Logf("six parts, one refused, one told to stop (%s), one lost with its node (%s): %v", told, lost, time.Since(start).Round(time.Second))

	jobs := c.say("scontrol", "-o", "show", "job", id)
	assert.Equal(t, 6, strings.Count(jobs, "JobState=COMPLETED"), jobs)
	for part := range 6 {
		task := fmt.Sprint(part + 1)
		if id+"_"+task == told || id+"_"+task == lost || part == 0 {
			assert.Regexp(t, `ArrayTaskId=`+task+` .* Restarts=[123] `, jobs)
		}
	}
	hub.Lock()
	assert.Equal(t, 2, refused)
	hub.Unlock()
	x, y := testkit.Result(t, want), testkit.Result(t, dst)
	require.Equal(t, len(x), len(y))
	for n := range x {
		assert.True(t, x[n] == y[n], "%s differs", n)
	}
}

# shellcheck shell=bash
# The pair's networks: replication (NIC 0, node to node), export (NIC 1, NBD clients), management (NIC 2).
#
# --net user needs no privilege. Node to node, each QEMU is the client of a unix stream socket of wire.py, which
# drops no frame while both nodes run and lets either be killed and booted again while the other goes on.
# The management network is such a cable too, or, where an arbiter or a web server is to be reached, the switch of management.py.
# The export is QEMU's user networking with one forwarded port, or two where snapshots are exported. With --http-ports the management network is a hub in each
# QEMU, of the cable and of user networking with a forwarded port for the node's web server.
#
# --net tap (root) puts bridges and taps into a network namespace of this pair: that gives the guests the
# checksum and segmentation offloads that only taps have, and addresses of their own.

networks=(replication export management)

# Addresses, by node.
declare -A replication_ip=([a]=10.77.0.1 [b]=10.77.0.2)
declare -A management_ip=([a]=10.99.0.1 [b]=10.99.0.2 [host]=10.99.0.254)
declare -A tap_ip=([host]=10.88.0.1 [a]=10.88.0.11 [b]=10.88.0.12 [floating]=10.88.0.10)
declare -A mac_end=([a]=0a [b]=0b)
nbd_port=10809 snapshot_port=10810
http_port=7791

# mac NODE NETWORK-INDEX
mac() { printf '52:54:00:00:0%d:%s' $(($2 + 1)) "${mac_end[$1]}"; }

# export_ip NODE - the node's address on the export network, as the node knows it.
export_ip() { if [ "$net" = tap ]; then say "${tap_ip[$1]}"; else say 10.0.2.15; fi; }

# export_address NODE - where a client on the host finds the node's export (inside the namespace with taps).
export_address() {
  if [ "$net" = tap ]; then
    say "${tap_ip[$1]}:$nbd_port"
  elif [ "$1" = a ]; then
    say "127.0.0.1:$port_a"
  else
    say "127.0.0.1:$port_b"
  fi
}

# http_address NODE - where its web server is, as export_address; nothing without one.
http_address() {
  local port=$http_a
  [ "$1" = a ] || port=$http_b
  if [ -z "$port" ]; then return; fi
  if [ "$net" = tap ]; then say "${management_ip[$1]}:$http_port"; else say "127.0.0.1:$port"; fi
}

# snapshot_address NODE - the same of its snapshots.
snapshot_address() {
  if [ "$net" = tap ]; then
    say "${tap_ip[$1]}:$snapshot_port"
  elif [ "$1" = a ]; then
    say "127.0.0.1:$snapshot_a"
  else
    say "127.0.0.1:$snapshot_b"
  fi
}

# forwards NODE - the ports that QEMU's user networking forwards.
forwards() {
  printf ',hostfwd=tcp:%s-%s:%s' "$(export_address "$1")" "$(export_ip "$1")" "$nbd_port"
  [ "$snapshot" = off ] || printf ',hostfwd=tcp:%s-%s:%s' "$(snapshot_address "$1")" "$(export_ip "$1")" "$snapshot_port"
}

# tap_name NODE NETWORK-INDEX - unique per namespace.
tap_name() { printf 't%s%d' "$1" "$2"; }

prepare_net() {
  [ "$net" != user ] || return 0
  need ip
  [ "$(id -u)" = 0 ] || die "--net tap makes bridges and taps and needs root: run as root, or use --net user"
  [ -c /dev/net/tun ] || die "--net tap needs /dev/net/tun: modprobe tun"
  ip netns list | grep -qw "palisade-$tag" && return
  ip netns add "palisade-$tag"
  local index node
  # One ip process for all: a pair must be up quickly.
  {
    say "link set lo up"
    for index in 0 1 2; do
      say "link add br$index type bridge forward_delay 0"
      say "link set br$index up"
      for node in a b; do
        say "tuntap add $(tap_name $node $index) mode tap"
        say "link set $(tap_name $node $index) master br$index up"
      done
    done
    say "addr add ${tap_ip[host]}/24 dev br1"
    say "addr add ${management_ip[host]}/24 dev br2"
  } | "${netns[@]}" ip -batch - || die "cannot make the bridges and taps of --net tap"
}

remove_net() { [ "$net" != tap ] || ip netns del "palisade-$tag" 2>/dev/null || :; }

# cable_end NODE NETWORK - the socket that NODE's QEMU connects to. QEMU does so in a thread of its own, and with -daemonize
# goes to / meanwhile: on a busy machine a path relative to $dir was looked for there, and the node stayed without a
# network, in silence. An absolute path may be longer than a socket's may be, or have a comma in it; that by way of the
# wire's process, which runs in $dir, is neither, and is there as long as the cable.
cable_end() {
  local pid
  if pid=$(process_of wire); then say "/proc/$pid/cwd/$1.$2"; else say "$1.$2"; fi
}

# netdev_args NODE - QEMU's arguments for the three networks.
netdev_args() {
  local index network
  for index in 0 1 2; do
    network=${networks[index]}
    if [ "$net" = tap ]; then
      say -netdev "tap,id=net$index,ifname=$(tap_name "$1" $index),script=no,downscript=no"
    elif [ "$network" = export ]; then
      say -netdev "user,id=net$index,restrict=on,ipv6=off$(forwards "$1")"
    elif [ "$network" = management ] && [ -n "$http_a" ]; then
      web_args "$1" $index
    else
      say -netdev "stream,id=net$index,server=off,addr.type=unix,addr.path=$(cable_end "$1" "$network")"
    fi
    say -device "$(device net),id=$network,netdev=net$index,mac=$(mac "$1" $index),$(net_options "$network")"
  done
}

# web_args NODE INDEX - the management network with a way in from the host. Each QEMU's user networking is a host of its own there.
web_args() {
  local host=10.99.0.252
  [ "$1" = a ] || host=10.99.0.253
  say -netdev "hubport,id=net$2,hubid=0"
  say -netdev "stream,id=cable,server=off,addr.type=unix,addr.path=$(cable_end "$1" management)" -netdev hubport,id=hub-cable,hubid=0,netdev=cable
  say -netdev "user,id=web,net=10.99.0.0/24,host=$host,restrict=on,ipv6=off,hostfwd=tcp:$(http_address "$1")-${management_ip[$1]}:$http_port"
  say -netdev hubport,id=hub-web,hubid=0,netdev=web
}

# Frames as large as the stream carries save interrupts and packets between the nodes; a receive ring as large
# as QEMU has, since TCP here pays a second for a lost tail.
net_options() {
  local options=rx_queue_size=1024
  [ "$machine" = microvm ] || options+=,romfile=
  if [ "$net" = user ] && [ "$1" = replication ]; then options+=,host_mtu=$replication_mtu; fi
  say "$options"
}
replication_mtu=9000

# start_wires - the cables between the nodes (see wire.py and management.py); both QEMUs connect to them when they start.
start_wires() {
  rm -f cut.peers
  [ "$net" = user ] || return 0
  local cables=({a,b}.replication)
  end_process wire
  end_process switch
  rm -f {a,b}.{replication,management}
  if wants_arbiter; then
    spawn switch python3 "$top/tools/management.py" {a,b}.management "${management_ip[host]}:$management_port" "$(arbiter_address)"
  elif [ -n "$http_a" ]; then
    spawn switch python3 "$top/tools/management.py" {a,b}.management
  else
    cables+=({a,b}.management)
  fi
  spawn wire python3 "$top/tools/wire.py" "${cables[@]}"
  wait_until 10000 test -S b.replication || die "tools/wire.py does not start: $(tail -n 1 wire.err)"
  wait_until 10000 test -S b.management || die "the management network does not start: $(cat wire.err switch.err 2>/dev/null | tail -n 1)"
}

# start_float - the socket that follows the Primary (see float.py).
start_float() {
  end_process float
  rm -f nbd.sock
  spawn float python3 "$top/tools/float.py" nbd.sock "$(export_address a)" "$(export_address b)"
}

# cut_peers cut|restore - the management network carries nothing from node to node, but the arbiter stays in reach.
cut_peers() {
  local node word=off
  wants_arbiter || die "this pair has no arbiter: ./run-qemu.sh link $1 management"
  [ "$1" = restore ] || word=on
  if [ "$net" = tap ]; then
    for node in a b; do
      "${netns[@]}" ip link set dev "$(tap_name $node 2)" type bridge_slave isolated $word || die "cannot cut the bridge's ports"
    done
  elif [ $word = on ]; then
    : >cut.peers
  else
    rm -f cut.peers
  fi
}

# link cut|restore NETWORK [NODE] - as if the cable were pulled: the NIC sees its link go down.
verb_link() {
  local up node index=
  case ${1:-} in
    cut) up=false ;;
    restore) up=true ;;
    *) die "link cut or link restore? ./run-qemu.sh link cut replication" ;;
  esac
  case ${2:-} in
    peers)
      (($# == 2)) || die "link $1 peers takes no node: it is what lies between them"
      cut_peers "$1"
      return
      ;;
    replication | export | management) ;;
    *) die "link $1 takes a network: replication, export or management" ;;
  esac
  (($# <= 3)) || die "link takes one network and at most one node"
  [ -z "${3:-}" ] || check_node "$3"
  for node in ${3:-a b}; do
    if ! alive "$node"; then
      [ -z "${3:-}" ] || must_run "$node"
      continue
    fi
    must_qmp "$node" "{\"execute\":\"set_link\",\"arguments\":{\"name\":\"$2\",\"up\":$up}}"
    index=$node
  done
  [ -n "$index" ] || die "neither node is running: ./run-qemu.sh up$(dir_option)"
}

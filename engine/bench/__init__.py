"""`meridian bench`: what this node can do on this machine, beside what the machine itself can do. Loopback only.

corpus      the messages          generator   sends them, in a process of its own      sink     takes them, in a process of its own
limits      the machine's own     node        a real node, in its own processes        scenarios, mapping, memory    what is measured

The peers (generator, sink) are written on bare epoll and share no line with the adapters: they are to cost as little as they can on
a machine that they share with the node, and they count as a stranger would.
"""

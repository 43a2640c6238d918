"""A plain node that looks for a topic with a publisher and for a node, and says whether it sees both.

    python test/onlooker.py /demo/prediction edge_node
"""

import sys
import time

import rclpy

LIMIT_S = 200.0     # for whatever is started beside it

topic, name = sys.argv[1:]
rclpy.init(args=[])
node = rclpy.create_node('onlooker')
until = time.monotonic() + LIMIT_S
while not (seen := node.count_publishers(topic) > 0 and name in node.get_node_names()) and time.monotonic() < until:
    time.sleep(0.1)
print(f'topics {node.get_topic_names_and_types()}, nodes {node.get_node_names()}')
sys.exit(0 if seen else 1)

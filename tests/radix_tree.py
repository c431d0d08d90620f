"""A radix tree of tokens that behaves as SGLang's: the slow truth of a prefix cache."""


class Node:
    counter = 0

    def __init__(self, key=(), parent=None):
        self.key, self.parent, self.children = key, parent, {}
        self.id = Node.counter
        Node.counter += 1


class RadixTree:
    """A radix tree of pages; the upper part of a split node is the new one, as in SGLang."""

    def __init__(self, page_size):
        self.page_size = page_size
        self.reset()

    def reset(self):
        self.root_node = Node()

    def first_page(self, key):
        return tuple(key[: self.page_size])

    def match(self, key):
        """Matched tokens, deepest node; reads only."""
        node, depth = self.root_node, 0
        while True:
            rest = key[depth:]
            child = node.children.get(self.first_page(rest))
            if child is None:
                return depth, node
            common = self.common(child.key, rest)
            node, depth = child, depth + common
            if common < len(child.key):
                return depth, node

    def match_full_device_prefix(self, key):
        depth, node = self.match(self.aligned(key))
        return depth, node.id, depth

    def insert(self, key):
        key = self.aligned(key)
        depth, node = self.match(key)
        over = self.depth(node) - depth
        if over:
            node = self.split(node, len(node.key) - over)
        if depth < len(key):
            node.children[self.first_page(key[depth:])] = Node(key[depth:], node)

    def split(self, node, at):
        upper = Node(node.key[:at], node.parent)
        node.parent.children[self.first_page(node.key)] = upper
        node.key, node.parent = node.key[at:], upper
        upper.children[self.first_page(node.key)] = node
        return upper

    def delete(self, leaf):
        del leaf.parent.children[self.first_page(leaf.key)]

    def leaves(self):
        found, stack = [], [self.root_node]
        while stack:
            node = stack.pop()
            stack.extend(node.children.values())
            if not node.children and node is not self.root_node:
                found.append(node)
        return sorted(found, key=lambda node: node.id)

    def aligned(self, key):
        return list(key)[: len(key) // self.page_size * self.page_size]

    def common(self, first, second):
        same = 0
        for a, b in zip(first, second, strict=False):
            if a != b:
                break
            same += 1
        return same // self.page_size * self.page_size

    def depth(self, node):
        total = 0
        while node is not None:
            total += len(node.key)
            node = node.parent
        return total

"""What a device of a robot is called on the link: `<robot>.<device>`, the name that its key is of."""


def link_name(robot: str, device: str) -> str:
    """What a device of a robot is called on the link; the robot's own name where it has no devices."""
    return f'{robot}.{device}' if device else robot


def group_of(name: str, device: str) -> str:
    """The robot whose device has this name on the link."""
    return name.removesuffix(f'.{device}') if device else name


def objection_to_name(name: str, device: str) -> str:
    """Why a device cannot have this name on the link, or nothing.

    A key is of a name, so that the name has to say which device it is: with the key of another name, another robot's say, nobody takes a
    device's place.
    """
    robot = group_of(name, device)
    if not device or robot and link_name(robot, device) == name:
        return ''
    return f'device: the edge is {device}, and its name on the link is {name}; expected {link_name("<robot>", device)}'
